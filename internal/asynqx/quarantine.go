package asynqx

import (
	"context"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/quarantine"
)

const quarantineTimeout = 5 * time.Second

// Store keeps tasks that cannot be decoded, for a person to examine.
type Store interface {
	Add(ctx context.Context, entry quarantine.Entry) error
}

// Quarantine removes tasks that cannot be decoded from their queue, and keeps them.
type Quarantine struct {
	Store Store
	Pause func() time.Duration // before the next attempt after an error
	Log   *zap.Logger
	// Limited receives errors, which may repeat.
	Limited *zap.Logger
}

// Put quarantines the task that ctx belongs to, and returns what its handler returns.
func (q Quarantine) Put(ctx context.Context, task *asynq.Task, why string) error {
	return q.PutPart(ctx, task, task.Payload(), why)
}

// PutPart is [Quarantine.Put] for a part of the task's payload. The rest can be decoded.
func (q Quarantine) PutPart(ctx context.Context, task *asynq.Task, part []byte, why string) error {
	id, _ := asynq.GetTaskID(ctx)
	queue, _ := asynq.GetQueueName(ctx)
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), quarantineTimeout)
	defer cancel()
	err := q.Store.Add(once, quarantine.Entry{Queue: queue, Task: id, Type: task.Type(), Why: why, Raw: part})
	if err != nil {
		q.Limited.Warn("quarantining a task failed; retrying", zap.Error(err))
		return &Later{q.Pause()}
	}
	q.Log.Warn("undecodable task quarantined", zap.String("queue", queue), zap.String("task", id), zap.String("why", why))
	return nil
}
