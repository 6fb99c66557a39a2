package input

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
)

// mappingOf returns a file's mapping as text, or the error that refuses it.
func mappingOf(t *testing.T, name, content string, o Options) string {
	t.Helper()
	in, err := OpenStream(t.Context(), fixture.File(t, name, content), o)
	if err != nil {
		return err.Error()[strings.Index(err.Error(), name)+len(name)+2:]
	}
	defer in.Close()
	used, others := in.Mapping()
	return fmt.Sprintf("%v %q %s", keysOf(used), others, in.Dialect())
}

func TestOpenStream_MapsColumnNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header  string
		options Options
		want    string
	}{
		{"application_id,redirect_url", Options{}, `[{application_id application_id} {redirect_url redirect_url}] [] `},
		{"Application ID,applicationName,expiry-minutes", Options{}, `[{application_id Application ID} {expiry_minutes expiry-minutes}] ["applicationName"] `},
		{"applicationId,expiryTime,redirectUrl,documentOptional,workflowId", Options{},
			`[{application_id applicationId} {redirect_url redirectUrl} {expiry_minutes expiryTime} {document_optional documentOptional} {workflow_id workflowId}] [] `},
		{" APPLICATION\u00a0ID\u200b,Redirect URI,Webhook URL", Options{}, "[{application_id  APPLICATION\u00a0ID\u200b} {redirect_url Redirect URI} {callback_url Webhook URL}] [] "},
		{"application_id,Name,Date,line,url,id", Options{}, `column "line" is nearly lane; write lane if that is meant, or keep it as data with --carry "line"`},
		{"application_id,Name,Date,Zone,Plan,url,id,status,note", Options{}, `[{application_id application_id}] ["Name" "Date" "Zone" "Plan" "url" "id" "status" "note"] `},
		{"application_id,redirect_ulr", Options{}, `column "redirect_ulr" is nearly redirect_url; write redirect_url if that is meant, or keep it as data with --carry "redirect_ulr"`},
		{"application_id,redirect_ulr", Options{Strict: true}, `column "redirect_ulr" is nearly redirect_url; write redirect_url if that is meant, or keep it as data with --carry "redirect_ulr"`},
		{"application_id,redirect_ulr", Options{Strict: true, Carry: []string{"redirect_ulr"}}, `[{application_id application_id}] ["redirect_ulr"] `},
		{"application_id,redirect_ulr", Options{Columns: map[string]string{"redirect_url": "redirect_ulr"}}, `[{application_id application_id} {redirect_url redirect_ulr}] [] `},
		{"application_id,x", Options{Carry: []string{"y"}}, `no column "y" to carry over; columns found: "application_id", "x"`},
		{"aplication id,x", Options{}, `column "aplication id" is nearly application_id; write application_id if that is meant, or keep it as data with --carry "aplication id"`},
		{"Application ID,application_id", Options{}, `the columns "Application ID" and "application_id" both mean application_id; rename or remove one, or keep one as data with --carry "application_id"`},
		{"Application ID,application_id", Options{Carry: []string{"Application ID"}}, `[{application_id application_id}] ["Application ID"] `},
		{"customer ref,redirect", Options{Columns: map[string]string{"application_id": "Customer_Ref"}}, `[{application_id customer ref} {redirect_url redirect}] [] `},
		{"application_id,Colour", Options{Strict: true}, `unknown columns "Colour"; map them with --map KEY=COLUMN, or drop them with --ignore-unknown (the keys are application_id, redirect_url, expiry_minutes, document_optional, workflow_id, lane, callback_url, not_after, generation, metadata)`},
		{"application_id,status,link_id,url,expires_at,reason,attempts,possible_duplicates,message", Options{Strict: true},
			`[{application_id application_id}] ["status" "link_id" "url" "expires_at" "reason" "attempts" "possible_duplicates" "message"] `},
		{"application_id,,\"\"", Options{Strict: true}, `[{application_id application_id}] [] `},
		{"name;application_id", Options{}, `[{application_id application_id}] ["name"] separated by ';'`},
		{"a,b|application_id", Options{}, `[{application_id application_id}] ["a,b"] separated by '|'`},
		{"name\tApp-ID", Options{}, `[{application_id App-ID}] ["name"] separated by tabs`},
		{"Ref\tname", Options{Columns: map[string]string{"application_id": "Ref"}}, `[{application_id Ref}] ["name"] separated by tabs`},
		{"sep=;\r\nname;application_id", Options{}, `[{application_id application_id}] ["name"] separated by ';'`},
		{"sep=^\r\nname^application_id", Options{}, `[{application_id application_id}] ["name"] separated by '^'`},
		{"\"sep=;\"\r\nname;application_id", Options{Delimiter: ';'}, `[{application_id application_id}] ["name"] separated by ';'`},
		{"name;application_id", Options{Delimiter: ','}, `no column application_id; the first line must name the columns, including application_id, separated by commas (columns found: "name;application_id")`},
	} {
		if got := mappingOf(t, "a.csv", c.header+"\r\nA-1\r\n", c.options); got != c.want {
			t.Errorf("%q %+v:\n got %s\nwant %s", c.header, c.options, got, c.want)
		}
	}
}

// The body of an HTTP request has no flags.
func TestReadStream_NamesNoFlagsInErrors(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"application_id,redirect_ulr": `open the body: column "redirect_ulr" is nearly redirect_url; write redirect_url if that is meant`,
		"application_id,Colour":       `open the body: unknown columns "Colour"; remove them (the keys are`,
		"application_id,\xe9t\xe9":    "open the body: column 2 of the header is not valid UTF-8; the file is probably windows-1252: send it with charset=windows-1252 in its Content-Type",
	} {
		_, err := ReadStream(strings.NewReader(header+"\nA-1,\n"), "the body", Options{Format: CSV, Strict: true})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v\nwant %s", header, err, want)
		}
	}
}

func TestRows_MapNDJSONKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line    string
		options Options
		want    string
	}{
		{`{"application_id":"A-1","colour":1}`, Options{}, "A-1 <nil> <nil>"},
		{`{"application_id":"A-1","colour":1,"colour":2}`, Options{}, "A-1 <nil> <nil>"},
		{`{"application_id":"A-1","colour":1}`, Options{Strict: true}, "A-1 colour: unknown key <nil>"},
		{`{"application_id":"A-1","status":"created","url":"x","attempts":1,"message":"x"}`, Options{Strict: true}, "A-1 <nil> <nil>"},
		{`{"application_id":"A-1","redirect_ulr":"x"}`, Options{}, `A-1 redirect_ulr: unknown key; write redirect_url if that is meant, or keep it as data with --carry "redirect_ulr" stopped`},
		{`{"application_id":"A-1","redirect_ulr":"x"}`, Options{Carry: []string{"redirect_ulr"}}, "A-1 <nil> <nil>"},
		{`{"applicationId":"A-1"}`, Options{}, ` applicationId: unknown key; write application_id if that is meant, or keep it as data with --carry "applicationId"; application_id: is required stopped`},
		{`{"applicationId":"A-1"}`, Options{Columns: map[string]string{"application_id": "applicationId"}}, "A-1 <nil> <nil>"},
		{`{"application_id":"A-1","lane":"fast"}`, Options{Carry: []string{"lane"}}, "A-1 <nil> <nil>"},
	} {
		in, err := Open(fixture.File(t, "a.ndjson", c.line), c.options)
		if err != nil {
			t.Fatal(err)
		}
		row := rows(t, in)[0]
		_, err = in.Inspect(anyRow)
		_ = in.Close()
		if err != nil {
			err = fmt.Errorf("stopped")
		}
		if got := fmt.Sprintf("%s %v %v", row.Request.ApplicationID, row.Err, err); got != c.want {
			t.Errorf("%s %+v:\n got %s\nwant %s", c.line, c.options, got, c.want)
		}
	}
}

// keysOf lists columns as "{key name}".
func keysOf(columns []Column) (list []string) {
	for _, c := range columns {
		list = append(list, fmt.Sprintf("{%s %s}", c.Key, c.Name))
	}
	return list
}
