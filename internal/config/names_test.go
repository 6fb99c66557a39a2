package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/config"
)

func TestUnknown_NamesTheNearest(t *testing.T) {
	got := config.Unknown([]string{
		"KYCLINK_REDIS_URI=x", "KYCLINK_ACCOUNT=x", "KYCLINK_ACCOUNT_FILE=x", "KYCLINK_REDIS_URL_FILE=x", "KYCLINK_RETENTION=1h",
		"FACEKI_CLIENTID=a", "FACEKI_RATES=1", "FACEKI_SECRET=x", "FACEKI_CLIENT_SECRET_FILE=x", "FACEKI_CLIENT_ID=x", "FACEKI_TIMEOUT=x",
		"PATH=/bin", "KYCLINK_CALLBACK_SECRET_FILE=x", "KYCLNK_REDIS_URL=x", "faceki_client_id=x", "KYCLINK_PORT=8080", "KYCLINK_WHATEVER_ELSE=x",
		"FACEKI_CLIENT_SECERT=x", "FACEKI_CLIENT_SECRET_FLIE=x", "PORT=tcp://10.0.0.1:80", "ACCOUNT=x",
	})
	want := []config.Misspelled{
		{"FACEKI_CLIENTID", "FACEKI_CLIENT_ID"}, {"FACEKI_CLIENT_SECERT", "FACEKI_CLIENT_SECRET"},
		{"FACEKI_CLIENT_SECRET_FLIE", "FACEKI_CLIENT_SECRET_FILE"}, {"FACEKI_RATES", "FACEKI_RATE"}, {"FACEKI_SECRET", ""},
		{"KYCLINK_ACCOUNT_FILE", "KYCLINK_ACCOUNT"}, {"KYCLINK_PORT", ""}, {"KYCLINK_REDIS_URI", "KYCLINK_REDIS_URL"},
		{"KYCLINK_WHATEVER_ELSE", ""}, {"KYCLNK_REDIS_URL", "KYCLINK_REDIS_URL"}, {"faceki_client_id", "FACEKI_CLIENT_ID"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Kubernetes sets these in every container beside a service of that name.
func TestUnknown_IgnoresKubernetesServices(t *testing.T) {
	got := config.Unknown([]string{
		"KYCLINK_SERVICE_HOST=10.0.0.1", "KYCLINK_SERVICE_PORT=80", "KYCLINK_SERVICE_PORT_HTTP=80", "KYCLINK_PORT=tcp://10.0.0.1:80",
		"KYCLINK_PORT_80_TCP=tcp://10.0.0.1:80", "KYCLINK_PORT_80_TCP_PROTO=tcp", "KYCLINK_PORT_80_TCP_PORT=80", "KYCLINK_PORT_80_TCP_ADDR=10.0.0.1",
		"KYCLINK_REDIS_SERVICE_HOST=10.0.0.1", "KYCLINK_REDIS_PORT=tcp://10.0.0.1:6379", "KYCLINK_REDIS_PORT_6379_TCP_ADDR=10.0.0.1",
		"FACEKI_SIMULATOR_PORT_53_UDP=udp://10.0.0.1:53",
	})
	if len(got) > 0 {
		t.Errorf("got %q as misspelt, want none", got)
	}
}

// The problem names what an editor or a shell added to the secret, without the secret.
func TestLoad_ExplainsFlawsOfSecrets(t *testing.T) {
	for content, want := range map[string]string{
		"\xef\xbb\xbfhunter2\n": "begins with a byte order mark",
		"\xff\xfeh\x00u\x00":    "is in UTF-16",
		"\xfe\xff\x00h\x00u":    "is in UTF-16",
		"h\x00u\x00n\x00":       "NUL byte",
		"hunter2\xff":           "is not UTF-8",
		"\"hunter2\"\n":         "is in quotes",
		"'hunter2'":             "is in quotes",
		"“hunter2”":             "is in quotes",
		"hunter2 \n":            "ends in a blank",
		"hunter2\t":             "ends in a blank",
		"hunter2\u00a0":         "ends in a blank",
		" hunter2":              "begins with a blank",
		"hunter2\nhunter3\n":    "has several lines",
	} {
		for _, variable := range []string{"FACEKI_CLIENT_SECRET", "FACEKI_CLIENT_SECRET_FILE"} {
			value := content
			switch {
			case variable == "FACEKI_CLIENT_SECRET_FILE":
				value = file(t, content)
			case want == "is in UTF-16":
				continue
			default:
				value = strings.TrimRight(value, "\n")
			}
			_, err := config.Load(environ(map[string]string{"FACEKI_CLIENT_ID": "x", variable: value}), config.Needs{FaceKi: true})
			problems := problemsOf(t, err)
			if len(problems) != 1 || !strings.HasPrefix(problems[0], variable+" ") || !strings.Contains(problems[0], want) || strings.Contains(problems[0], "hunter") {
				t.Errorf("%s=%q: got problems %q, want %q", variable, content, problems, want)
			}
		}
	}
	for _, content := range []string{"hunter2\r\n\n", `hun"ter2"`, `"`} {
		c, err := config.Load(environ(map[string]string{"FACEKI_CLIENT_ID": "x", "FACEKI_CLIENT_SECRET_FILE": file(t, content)}), config.Needs{FaceKi: true})
		if err != nil || c.FaceKi.ClientSecret == "" {
			t.Errorf("%q: got error %v, want it accepted", content, err)
		}
	}
	secrets := hookSecret + "\n" + hookSecret + "\n"
	if _, err := config.Load(environ(map[string]string{"KYCLINK_CALLBACK_SECRET_FILE": file(t, secrets)}), config.Needs{}); err != nil {
		t.Errorf("one secret in each line: got error %v, want them accepted", err)
	}
}
