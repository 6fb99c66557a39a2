package input

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	unicodes "golang.org/x/text/encoding/unicode"

	"github.com/kyclink/kyclink/internal/fixture"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
)

func TestOpen_ReadsEachFormatAndCompressionRepeatedly(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a.csv", "a.ndjson"} {
		text := "\ufeffapplication_id\r\nA-1\r\nA-2"
		if name == "a.ndjson" {
			text = "\ufeff{\"application_id\":\"A-1\"}\r\n{\"application_id\":\"A-2\"}"
		}
		for _, suffix := range []string{"", ".gz", ".zst", ".GZ"} {
			t.Run(name+suffix, func(t *testing.T) {
				path := fixture.File(t, name+suffix, compressed(t, strings.ToLower(suffix), text))
				in := open(t, path)
				for range 2 {
					if got := idsOf(rows(t, in)); fmt.Sprint(got) != "[A-1 A-2]" {
						t.Errorf("got %v", got)
					}
				}
				once, err := OpenStream(t.Context(), path, Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer once.Close()
				if got := idsOf(rows(t, once)); fmt.Sprint(got) != "[A-1 A-2]" {
					t.Errorf("as a stream: got %v", got)
				}
				if read, size := once.Size(); read != size || size == 0 {
					t.Errorf("%d of %d bytes were read, want all", read, size)
				}
				for _, err := range once.Rows() {
					if unusable := new(Error); !errors.As(err, &unusable) {
						t.Errorf("reading the stream again: got %v, want an Error", err)
					}
				}
			})
		}
	}
}

// A truncated file is not taken for a shorter one.
func TestOpen_RefusesTruncatedCompressedFiles(t *testing.T) {
	t.Parallel()
	text := "application_id\n" + strings.Join(strings.Split(fmt.Sprint(make([]int, 5000)), " "), "\n")
	for _, suffix := range []string{".gz", ".zst"} {
		whole := compressed(t, suffix, text)
		for _, size := range []int{3, 12, len(whole) / 2, len(whole) - 1} {
			in, err := Open(fixture.File(t, "a.csv"+suffix, whole[:size]), Options{})
			if err == nil {
				for _, rowErr := range in.Rows() {
					err = rowErr
				}
				_ = in.Close()
			}
			if unusable := new(Error); !errors.As(err, &unusable) {
				t.Errorf("%s truncated to %d of %d bytes: got %v, want an Error", suffix, size, len(whole), err)
			}
		}
	}
}

func TestOpenStream_FollowsOptions(t *testing.T) {
	t.Parallel()
	ref := map[string]string{"application_id": "Ref", "redirect_url": "application_id"}
	for _, c := range []struct {
		name, file, content string
		options             Options
		want                string
	}{
		{"semicolons", "a.csv", "x;application_id\n\"a;\"\"b\";A-1\n", Options{Delimiter: ';'}, "[A-1]"},
		{"tabs", "a.csv", "x\tapplication_id\na,b\tA-1\n", Options{Delimiter: '\t'}, "[A-1]"},
		{"mapped", "a.csv", "application_id,Ref\nhttps://shop.example/,A-1\n", Options{Columns: ref, Strict: true}, "[A-1]"},
		{"mapped NDJSON", "a.ndjson", `{"application_id":"https://shop.example/","Ref":"A-1"}`, Options{Columns: ref}, "[A-1]"},
		{"a format that is given", "a.txt", "application_id\nA-1\n", Options{Format: CSV}, "[A-1]"},
		{"an unknown column", "a.csv", "application_id,Colour,Size\n", Options{Strict: true}, `unknown columns "Colour", "Size"; map them with --map KEY=COLUMN, or drop them with --ignore-unknown`},
		{"no such column", "a.csv", "application_id,Reference\n", Options{Columns: ref}, `no column "Ref" to map to application_id; columns found: "application_id", "Reference"`},
		{"mapped and named", "a.csv", "Ref,application_id\n", Options{Columns: map[string]string{"application_id": "Ref"}}, `column "application_id" means application_id, but "Ref" is mapped to it; rename or remove one`},
		{"twice", "a.csv", "Ref,Ref\n", Options{Columns: map[string]string{"application_id": "Ref"}}, "two columns are named Ref; rename or remove one"},
		{"another delimiter", "a.csv", "application_id;lane\n", Options{Delimiter: ',', Strict: true}, "no column application_id; the first line must name the columns, including application_id, separated by commas"},
		{"unknown suffix", "a.txt", "application_id\n", Options{}, "unknown suffix; use .csv, .xlsx, .ndjson or .jsonl, optionally followed by .gz or .zst, or give --format"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, err := OpenStream(t.Context(), fixture.File(t, c.file, c.content), c.options)
			if err != nil {
				if !strings.Contains(err.Error(), " "+c.want) {
					t.Errorf("got %v\nwant %s", err, c.want)
				}
				return
			}
			defer in.Close()
			if got := fmt.Sprint(idsOf(rows(t, in))); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// The pipe stays open, but nothing more is written to it.
func TestOpenStream_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("stopped")
	go func() {
		_, _ = w.WriteString("application_id\nA-1\n")
		cancel(cause)
	}()
	in := &File{path: "pipe", format: CSV, file: r, stream: true, ctx: ctx}
	if in, err = in.start(); err == nil {
		for _, rowErr := range in.Rows() {
			err = rowErr
		}
	}
	if !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause of the context", err)
	}
}

func TestOpen_DecodesEncodings(t *testing.T) {
	t.Parallel()
	const text = "application_id,full_name\r\nA-1,Zoë Łukasz\r\nA-2,\"a\r\nb\"\r\n"
	encode := func(e interface{ Bytes([]byte) ([]byte, error) }, text string) string {
		t.Helper()
		out, err := e.Bytes([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	utf16 := func(e unicodes.Endianness, mark unicodes.BOMPolicy) string {
		return encode(unicodes.UTF16(e, mark).NewEncoder(), text)
	}
	for _, c := range []struct {
		content, encoding, want string
		mark                    bool
	}{
		{text, "", `["A-1" "Zoë Łukasz"] ["A-2" "a\r\nb"]`, false},
		{"\ufeff" + text, "", `["A-1" "Zoë Łukasz"] ["A-2" "a\r\nb"]`, true},
		{"\ufeff" + text, "windows-1252", `["A-1" "Zoë Łukasz"] ["A-2" "a\r\nb"]`, true},
		{utf16(unicodes.LittleEndian, unicodes.UseBOM), "", `["A-1" "Zoë Łukasz"] ["A-2" "a\r\nb"]`, true},
		{utf16(unicodes.BigEndian, unicodes.UseBOM), "", `["A-1" "Zoë Łukasz"] ["A-2" "a\r\nb"]`, true},
		{utf16(unicodes.LittleEndian, unicodes.IgnoreBOM), "utf-16le", `["A-1" "Zoë Łukasz"] ["A-2" "a\r\nb"]`, false},
		{encode(charmap.Windows1250.NewEncoder(), text), "windows-1250", `["A-1" "Zoë Łukasz"] ["A-2" "a\r\nb"]`, false},
		{encode(charmap.Windows1250.NewEncoder(), text), "CP1250", `["A-1" "Zoë Łukasz"] ["A-2" "a\r\nb"]`, false},
		{encode(charmap.CodePage850.NewEncoder(), strings.ReplaceAll(text, "Ł", "L")), "IBM850", `["A-1" "Zoë Lukasz"] ["A-2" "a\r\nb"]`, false},
		{encode(japanese.ShiftJIS.NewEncoder(), "application_id,name\nA-1,表\n"), "shift_jis", `["A-1" "表"]`, false},
	} {
		if err := (Options{Encoding: c.encoding}).Validate(); err != nil {
			t.Fatal(err)
		}
		in, err := Open(fixture.File(t, "a.csv", c.content), Options{Encoding: c.encoding})
		if err != nil {
			t.Errorf("open in encoding %q: %v", c.encoding, err)
			continue
		}
		for range 2 {
			var got []string
			for _, row := range rows(t, in) {
				got = append(got, fmt.Sprintf("%q", row.Cells))
			}
			if strings.Join(got, " ") != c.want || in.mark != c.mark {
				t.Errorf("encoding %q: got %s, byte order mark %t; want %s, %t", c.encoding, got, in.mark, c.want, c.mark)
			}
		}
		_ = in.Close()
	}
	for _, name := range []string{"utf-7", "klingon", "iso-2022-kr"} {
		if err := (Options{Encoding: name}).Validate(); err == nil {
			t.Errorf("encoding %s was accepted, want an error", name)
		}
	}
}

// Tapes pad a gzip file with zeros, and gzip files may be concatenated. Anything else
// after the end is an error.
func TestOpen_ReadsGzipMembersAndIgnoresPadding(t *testing.T) {
	t.Parallel()
	one, two := compressed(t, ".gz", "application_id\nA-1\n"), compressed(t, ".gz", "A-2\n")
	zeros := string(bytes.Repeat([]byte{0}, 70_000))
	for content, want := range map[string]string{
		one + zeros: "[A-1]", one + two: "[A-1 A-2]", one + zeros[:3] + two + zeros: "[A-1 A-2]", one + "x": "", one + zeros + "x": "", one + two[:5]: "",
		one + strings.Repeat(compressed(t, ".gz", ""), 1000): "[A-1]",
	} {
		in, err := Open(fixture.File(t, "a.csv.gz", content), Options{})
		var all []Row
		if err == nil {
			for row, rowErr := range in.Rows() {
				if err = rowErr; err == nil {
					all = append(all, row)
				}
			}
			_ = in.Close()
		}
		if got := fmt.Sprint(idsOf(all)); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%d bytes: got %s, %v; want %q", len(content), got, err, want)
		}
	}
}
