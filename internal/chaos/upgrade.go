package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// changes returns the schedule of a run with several versions: the workers, one after the
// other, and the API server change from each version to the next, and then work with it until
// the next change. Half of the time between two changes, they are of two versions.
func (r *rig) changes() (schedule []injection) {
	step := r.cfg.duration / time.Duration(len(r.cfg.versions)+1)
	for i, program := range r.cfg.versions {
		previous := r.cfg.kyclink
		if i > 0 {
			previous = r.cfg.versions[i-1]
		}
		schedule = append(schedule, injection{at: step * time.Duration(i+1), duration: step / 2, kind: kind{
			name: fmt.Sprintf("version-%d", i+1), group: "version",
			do: func(_ context.Context, o injection) error { return r.change(i, []string{previous, program}, o) },
		}})
	}
	return schedule
}

// change changes to a program. Programs of both versions import batches meanwhile.
func (r *rig) change(number int, programs []string, o injection) error {
	imports := make([]*bulkImport, 0, 2*len(programs))
	for i, program := range slices.Concat(programs, programs) {
		b, err := r.startImport(program, fmt.Sprintf("upgrade-%d-%d", number, i))
		if err != nil {
			return err
		}
		imports = append(imports, b)
		if i == 1 { // the other imports begin with workers of both versions
			if err := r.fleet.upgradeOne(programs[1]); err != nil {
				return err
			}
			o.wait()
		}
	}
	r.apiServer.upgrade(programs[1])
	if err := r.fleet.upgradeOthers(); err != nil {
		return err
	}
	for _, b := range imports {
		r.endImport(b)
	}
	return nil
}

// bulkImport is a `kyclink import`.
type bulkImport struct {
	process *process
	ids     []string
}

func (r *rig) startImport(program, batch string) (*bulkImport, error) {
	file, err := os.Create(filepath.Join(r.cfg.dir, batch+".ndjson"))
	if err != nil {
		return nil, err
	}
	b := new(bulkImport)
	rows := json.NewEncoder(file)
	for i := range importRows {
		id := fmt.Sprintf("%s-%d", batch, i)
		b.ids = append(b.ids, id)
		r.journal.addRequest(id, 1)
		if err := rows.Encode(r.generator.request(id)); err != nil {
			return nil, err
		}
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	b.process, err = launch(program, r.cfg.dir, batch, []string{"import", file.Name(), "--batch", batch},
		slices.Concat(r.store.settings(), r.receiver.settings()), "")
	return b, err
}

// endImport waits for an import, and records a problem if it has not succeeded.
func (r *rig) endImport(b *bulkImport) {
	<-b.process.Exited
	if code := b.process.State().ExitCode(); code != 0 {
		r.journal.addProblem("an import ended with exit code %d; %s", code, b.process.Tail())
		return
	}
	for _, id := range b.ids {
		r.journal.acknowledge(id, 1)
	}
}
