package bulk

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	unicodes "golang.org/x/text/encoding/unicode"

	"github.com/kyclink/kyclink/tasks"
)

// mappingOf shows a file's mapping, or why it is refused.
func mappingOf(t *testing.T, name, content string, r Reading) string {
	t.Helper()
	in, err := OpenStream(t.Context(), file(t, name, content), r)
	if err != nil {
		return err.Error()[strings.Index(err.Error(), name)+len(name)+1:]
	}
	defer in.Close()
	used, others := in.Mapping()
	return fmt.Sprintf("%v %q %s", used, others, in.Style())
}

func TestHeaderNames(t *testing.T) {
	for _, c := range []struct {
		header  string
		reading Reading
		want    string
	}{
		{"application_id,redirect_url", Reading{}, `[{application_id application_id} {redirect_url redirect_url}] [] `},
		{"Application ID,applicationName,expiry-minutes", Reading{}, `[{application_id Application ID} {expiry_minutes expiry-minutes}] ["applicationName"] `},
		{"applicationId,expiryTime,redirectUrl,documentOptional,workflowId", Reading{},
			`[{application_id applicationId} {redirect_url redirectUrl} {expiry_minutes expiryTime} {document_optional documentOptional} {workflow_id workflowId}] [] `},
		{" APPLICATION\u00a0ID\u200b,Redirect URI,Webhook URL", Reading{}, "[{application_id  APPLICATION\u00a0ID\u200b} {redirect_url Redirect URI} {callback_url Webhook URL}] [] "},
		{"application_id,Name,Date,line,url,id", Reading{}, `has a column "line", which is nearly lane; write lane if that is meant, or keep it as data with --carry "line"`},
		{"application_id,Name,Date,Zone,Plan,url,id,status,note", Reading{}, `[{application_id application_id}] ["Name" "Date" "Zone" "Plan" "url" "id" "status" "note"] `},
		{"application_id,redirect_ulr", Reading{}, `has a column "redirect_ulr", which is nearly redirect_url; write redirect_url if that is meant, or keep it as data with --carry "redirect_ulr"`},
		{"application_id,redirect_ulr", Reading{Strict: true}, `has a column "redirect_ulr", which is nearly redirect_url; write redirect_url if that is meant, or keep it as data with --carry "redirect_ulr"`},
		{"application_id,redirect_ulr", Reading{Strict: true, Carry: []string{"redirect_ulr"}}, `[{application_id application_id}] ["redirect_ulr"] `},
		{"application_id,redirect_ulr", Reading{Columns: map[string]string{"redirect_url": "redirect_ulr"}}, `[{application_id application_id} {redirect_url redirect_ulr}] [] `},
		{"application_id,x", Reading{Carry: []string{"y"}}, `has no column "y", which was to be carried over; it has "application_id", "x"`},
		{"aplication id,x", Reading{}, `has a column "aplication id", which is nearly application_id; write application_id if that is meant, or keep it as data with --carry "aplication id"`},
		{"Application ID,application_id", Reading{}, `has the columns "Application ID" and "application_id", which both mean application_id; rename or remove one, or keep one as data with --carry "application_id"`},
		{"Application ID,application_id", Reading{Carry: []string{"Application ID"}}, `[{application_id application_id}] ["Application ID"] `},
		{"customer ref,redirect", Reading{Columns: map[string]string{"application_id": "Customer_Ref"}}, `[{application_id customer ref} {redirect_url redirect}] [] `},
		{"application_id,Colour", Reading{Strict: true}, `has unknown columns "Colour"; map them with --map KEY=COLUMN, or leave them out with --ignore-unknown (the keys are application_id, redirect_url, expiry_minutes, document_optional, workflow_id, lane, callback_url, not_after, generation, metadata)`},
		{"application_id,status,link_id,url,expires_at,reason,attempts,possible_duplicates,message", Reading{Strict: true},
			`[{application_id application_id}] ["status" "link_id" "url" "expires_at" "reason" "attempts" "possible_duplicates" "message"] `},
		{"application_id,,\"\"", Reading{Strict: true}, `[{application_id application_id}] [] `},
		{"name;application_id", Reading{}, `[{application_id application_id}] ["name"] split by ';'`},
		{"a,b|application_id", Reading{}, `[{application_id application_id}] ["a,b"] split by '|'`},
		{"name\tApp-ID", Reading{}, `[{application_id App-ID}] ["name"] split by tabs`},
		{"Ref\tname", Reading{Columns: map[string]string{"application_id": "Ref"}}, `[{application_id Ref}] ["name"] split by tabs`},
		{"sep=;\r\nname;application_id", Reading{}, `[{application_id application_id}] ["name"] split by ';'`},
		{"sep=^\r\nname^application_id", Reading{}, `[{application_id application_id}] ["name"] split by '^'`},
		{"\"sep=;\"\r\nname;application_id", Reading{Delimiter: ';'}, `[{application_id application_id}] ["name"] split by ';'`},
		{"name;application_id", Reading{Delimiter: ','}, `has no column application_id; its first line must name the columns, application_id among them, separated by commas (it has "name;application_id")`},
	} {
		if got := mappingOf(t, "a.csv", c.header+"\r\nA-1\r\n", c.reading); got != c.want {
			t.Errorf("%q %+v:\n got %s\nwant %s", c.header, c.reading, got, c.want)
		}
	}
}

// A body of an HTTP request has no flags that a message could name.
func TestHeaderNamesOfAStream(t *testing.T) {
	for header, want := range map[string]string{
		"application_id,redirect_ulr": `(the body) has a column "redirect_ulr", which is nearly redirect_url; write redirect_url if that is meant`,
		"application_id,Colour":       `(the body) has unknown columns "Colour"; remove them (the keys are`,
		"application_id,\xe9t\xe9":    "(the body) has a header whose column 2 is not valid UTF-8; the file is probably windows-1252: send it with charset=windows-1252 in its Content-Type",
	} {
		_, err := ReadStream(strings.NewReader(header+"\nA-1,\n"), "(the body)", Reading{Format: CSV, Strict: true})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v\nwant %s", header, err, want)
		}
	}
}

func TestEncodings(t *testing.T) {
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
		if err := (Reading{Encoding: c.encoding}).Validate(); err != nil {
			t.Fatal(err)
		}
		in, err := Open(file(t, "a.csv", c.content), Reading{Encoding: c.encoding})
		if err != nil {
			t.Errorf("%s: %v", c.encoding, err)
			continue
		}
		for range 2 {
			var got []string
			for _, row := range rows(t, in) {
				got = append(got, fmt.Sprintf("%q", row.cells))
			}
			if strings.Join(got, " ") != c.want || in.mark != c.mark {
				t.Errorf("%s: got %s, mark %v; want %s", c.encoding, got, in.mark, c.want)
			}
		}
		_ = in.Close()
	}
	for _, name := range []string{"utf-7", "klingon", "iso-2022-kr"} {
		if err := (Reading{Encoding: name}).Validate(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// What means nothing in a file's encoding is never passed on.
func TestGarbled(t *testing.T) {
	for _, c := range []struct{ name, content, encoding, want string }{
		{"a.csv", "application_id,n\nA-1,ok\nA-2,Zo\xebk\nA-3,\xa3ukasz\n", "", "row 2 at line 3, column n is not valid UTF-8; the file is probably windows-1250: read it with --encoding windows-1250, or save it as UTF-8 (and 1 more such row)"},
		{"a.csv", "application_id,n,m\nA-1,\xeb,\xe4\n", "", "row 1 at line 2, column n, m is not valid UTF-8; the file is probably windows-1252: read it with --encoding windows-1252, or save it as UTF-8"},
		{"a.csv", "application_id,n\nA-1,\x8e\n", "macintosh", ""},
		{"a.csv", "application_id,n\nA-1,\xcc\xee\xf1\xea\xe2\xe0\n", "", "row 1 at line 2, column n is not valid UTF-8; the file is probably windows-1251: read it with --encoding windows-1251, or save it as UTF-8"},
		{"a.csv", "application_id,n\nA-1,M\x8fller Ren\x8e\n", "", "row 1 at line 2, column n is not valid UTF-8; the file is probably macintosh: read it with --encoding macintosh, or save it as UTF-8"},
		{"a.ndjson", `{"application_id":"A-1","n":"Zo` + "\xeb\"}\n", "", "row 1 at line 1 is not valid UTF-8; the file is probably windows-1252: read it with --encoding windows-1252, or save it as UTF-8"},
		{"a.csv", "application_id,n\nA-1,\x90\n", "shift_jis", "row 1 at line 2, n: holds characters that are not valid in the encoding shift_jis; check the encoding of the file"},
		{"a.csv", "\xff\xfea\x00p\x00p\x00i\x00d\x00,\x00n\x00\n\x00A\x00,\x00\x00\xd8\n\x00", "", "row 1 at line 2, n: holds characters that are not valid in the encoding UTF-16; check the encoding of the file"},
	} {
		in, err := Open(file(t, c.name, c.content), Reading{Encoding: c.encoding})
		if err != nil {
			t.Errorf("%q: %v", c.content, err)
			continue
		}
		_, err = in.Inspect("out.csv")
		_ = in.Close()
		if c.want == "" && err == nil {
			continue
		}
		if err == nil || !strings.HasSuffix(err.Error(), " cannot be used: "+c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.content, err, c.want)
		}
	}
}

func TestNDJSONKeys(t *testing.T) {
	for _, c := range []struct {
		line    string
		reading Reading
		want    string
	}{
		{`{"application_id":"A-1","colour":1}`, Reading{}, "A-1 <nil> <nil>"},
		{`{"application_id":"A-1","colour":1,"colour":2}`, Reading{}, "A-1 <nil> <nil>"},
		{`{"application_id":"A-1","colour":1}`, Reading{Strict: true}, "A-1 colour: unknown key <nil>"},
		{`{"application_id":"A-1","status":"created","url":"x","attempts":1,"message":"x"}`, Reading{Strict: true}, "A-1 <nil> <nil>"},
		{`{"application_id":"A-1","redirect_ulr":"x"}`, Reading{}, `A-1 redirect_ulr: unknown key; write redirect_url if that is meant, or keep it as data with --carry "redirect_ulr" stopped`},
		{`{"application_id":"A-1","redirect_ulr":"x"}`, Reading{Carry: []string{"redirect_ulr"}}, "A-1 <nil> <nil>"},
		{`{"applicationId":"A-1"}`, Reading{}, ` applicationId: unknown key; write application_id if that is meant, or keep it as data with --carry "applicationId"; application_id: is required stopped`},
		{`{"applicationId":"A-1"}`, Reading{Columns: map[string]string{"application_id": "applicationId"}}, "A-1 <nil> <nil>"},
		{`{"application_id":"A-1","lane":"fast"}`, Reading{Carry: []string{"lane"}}, "A-1 <nil> <nil>"},
	} {
		in, err := Open(file(t, "a.ndjson", c.line), c.reading)
		if err != nil {
			t.Fatal(err)
		}
		row := rows(t, in)[0]
		_, err = in.Inspect("out.csv")
		_ = in.Close()
		if err != nil {
			err = fmt.Errorf("stopped")
		}
		if got := fmt.Sprintf("%s %v %v", row.Request.ApplicationID, row.Err, err); got != c.want {
			t.Errorf("%s %+v:\n got %s\nwant %s", c.line, c.reading, got, c.want)
		}
	}
}

func TestCellsOfSpreadsheets(t *testing.T) {
	for cell, want := range map[string]string{"TRUE": "true", "Yes": "true", "1": "true", "False": "false", "no": "false", "0": "false", "": "none"} {
		in := open(t, file(t, "a.csv", "application_id,document_optional\nA-1,"+cell+"\n"))
		row := rows(t, in)[0]
		got := "none"
		if b := row.Request.DocumentOptional; b != nil {
			got = fmt.Sprint(*b)
		}
		if got != want || row.Err != nil {
			t.Errorf("%q: %s, %v", cell, got, row.Err)
		}
	}
	for id, want := range map[string]string{
		"“A-1”":     "application_id: begins or ends with “ (U+201C), a typographic quote, which is not part of an id; remove it",
		"A-1’":      "application_id: begins or ends with ’ (U+2019), a typographic quote, which is not part of an id; remove it",
		"O’1":       "<nil>",
		"#N/A":      "application_id: is #N/A, which a spreadsheet shows where a formula failed",
		"#A-1":      "<nil>",
		"A-1\u00a0": "application_id: contains '\\u00a0' (a non-breaking space); use printable characters without spaces",
		"A-1\u200b": "application_id: contains '\\u200b' (a zero-width space); use printable characters without spaces",
	} {
		if got := rows(t, open(t, file(t, "a.csv", "application_id\n"+id+"\n")))[0].Err; fmt.Sprint(got) != want {
			t.Errorf("%s: %v", id, got)
		}
	}
	in, err := OpenStream(t.Context(), file(t, "a.csv", "application_id,,\nA-1,,\nA-2,x,\n"), Reading{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got := rows(t, in); got[0].Err != nil || fmt.Sprint(got[1].Err) != "line 3 holds a value in column 2, which has no name in the header" {
		t.Errorf("got %v, %v", got[0].Err, got[1].Err)
	}
}

func TestLooksRounded(t *testing.T) {
	for id, want := range map[string]bool{
		"4.91702E+12": true, "4,91702E+12": true, "1E+12": true, "4.9e15": true, "4.91702E+12x": false, "1E5": false, "12E34": false, "E+1": false,
		"4.E+": false, "A-1": false, "": false, "491702000000": false, "4E+1+1": false,
	} {
		if got := LooksRounded(id); got != want {
			t.Errorf("%s: %v", id, got)
		}
	}
	in := open(t, file(t, "a.csv", "application_id\nA-1\n4.91702E+12\n1E+12\n"))
	if found, err := in.Inspect("out.csv"); err != nil || found.Rows != 3 || found.Rounded != 2 || found.FirstRounded.Number != 2 {
		t.Errorf("found %+v, %v", found, err)
	}
}

// Zeros after the end of a gzip file are what a tape fills it up with; members may
// follow each other; anything else is damage.
func TestAfterGzip(t *testing.T) {
	one, two := squeeze(t, ".gz", "application_id\nA-1\n"), squeeze(t, ".gz", "A-2\n")
	zeros := string(bytes.Repeat([]byte{0}, 70_000))
	for content, want := range map[string]string{
		one + zeros: "[A-1]", one + two: "[A-1 A-2]", one + zeros[:3] + two + zeros: "[A-1 A-2]", one + "x": "", one + zeros + "x": "", one + two[:5]: "",
		one + strings.Repeat(squeeze(t, ".gz", ""), 1000): "[A-1]",
	} {
		in, err := Open(file(t, "a.csv.gz", content), Reading{})
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
			t.Errorf("%d bytes: %s, %v; want %q", len(content), got, err, want)
		}
	}
}

// Every name that is taken for a key is its own, and nothing nearly another's.
func TestAliasesAreDistinct(t *testing.T) {
	seen := make(map[string]string)
	for _, key := range tasks.Keys() {
		for _, name := range append([]string{fold(key)}, aliases[key]...) {
			if other, twice := seen[name]; twice || name != fold(name) {
				t.Errorf("%s is of %s and %s", name, key, other)
			}
			seen[name] = key
			if got := nearKey(name); got != "" {
				t.Errorf("%s is nearly %s", name, got)
			}
		}
	}
	for _, key := range []string{"lane"} {
		for name, want := range map[string]string{"lnae": key, "lanes": key, "name": "", "date": "", "zone": "", "plane": key} {
			if got := nearKey(name); got != want {
				t.Errorf("%s is nearly %q", name, got)
			}
		}
	}
}
