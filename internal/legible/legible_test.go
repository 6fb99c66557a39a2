package legible

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText_EscapesHiddenCharacters(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain\ttext\n": "plain\ttext\n", "Zoë, Ælfgifu, 王, 🙂": "Zoë, Ælfgifu, 王, 🙂",
		"\x1b[2J\x07": `\u001b[2J\u0007`, "a\rb": `a\u000db`, "\x7f\u0085\u009b31m": `\u007f\u0085\u009b31m`,
		"\u202egnp.exe": `\u202egnp.exe`, "\u2066\u2069\u200e\u061c": `\u2066\u2069\u200e\u061c`,
		"a\u200bb\ufeff\u00ad\u2060": `a\u200bb\ufeff\u00ad\u2060`, "\u2028\u2029": `\u2028\u2029`,
		"\U000e0041": `\udb40\udc41`, "\x9b31m": `\ufffd31m`, "\u115f\u3164\ufe0f": `\u115f\u3164\ufe0f`,
	} {
		if got := Text(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestLine_EscapesLineBreaksAndTabs(t *testing.T) {
	if got := Line("a\n\tb\r\u2028c"); got != `a\u000a\u0009b\u000d\u2028c` {
		t.Errorf("got %q, want all four breaks and the tab escaped", got)
	}
}

func TestWriter_EscapesCharactersThatAreSplitBetweenWrites(t *testing.T) {
	const text = "é\u202e王\U000e0041🙂\x1b[m plain\n"
	for size := 1; size <= len(text); size++ {
		var out bytes.Buffer
		w := NewWriter(&out)
		for rest := []byte(text); len(rest) > 0; {
			n := min(size, len(rest))
			if got, err := w.Write(rest[:n]); got != n || err != nil {
				t.Fatalf("wrote %d of %d bytes: %v", got, n, err)
			}
			rest = rest[n:]
		}
		if out.String() != Text(text) {
			t.Errorf("in writes of %d bytes: got %q, want %q", size, out.String(), Text(text))
		}
	}
}

func FuzzWriterKeepsJSON(f *testing.F) {
	f.Add("\u202e\x1b\u009b", 3)
	f.Fuzz(func(t *testing.T, text string, size int) {
		if size < 1 || !utf8.ValidString(text) {
			return
		}
		var raw, out bytes.Buffer
		enc := json.NewEncoder(&raw)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(text); err != nil {
			t.Fatal(err)
		}
		w := NewWriter(&out)
		for rest := raw.Bytes(); len(rest) > 0; {
			n := min(size, len(rest))
			_, _ = w.Write(rest[:n])
			rest = rest[n:]
		}
		var back string
		if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != text {
			t.Errorf("%q was decoded as %q, %v", text, back, err)
		}
		if strings.ContainsFunc(out.String(), func(c rune) bool { return c != '\n' && Hidden(c) }) {
			t.Errorf("%q was written as %q, which contains hidden characters", text, &out)
		}
	})
}

func TestWrongName_AllowsOnlyShortPrintableNames(t *testing.T) {
	for name, valid := range map[string]bool{
		"spring": true, "spring 2026": true, "été/2026_(a)": true, "a-b": true, "春": true,
		"": false, "-x": false, "--all": false, " a": false, "a ": false, "a\tb": false, "a\x1bb": false, "a\u202eb": false, "a\u200bb": false,
		"a\u00a0b": false, "a\ufffdb": false, "\xff": false, "a\u2028b": false, strings.Repeat("a", 21): false, "a\ue000": false, "\u0301": false, "e\u0301": true,
	} {
		if got := WrongName(name, 20); (got == "") != valid {
			t.Errorf("%q: got problem %q, want valid: %t", name, got, valid)
		}
	}
}
