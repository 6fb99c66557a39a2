package bulk

import (
	"slices"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/tasks"
)

// BatchKeys returns the keys of a request for which a batch can have defaults.
func BatchKeys() []string {
	return []string{"redirect_url", "expiry_minutes", "document_optional", "workflow_id", "callback_url", "not_after"}
}

// ParseBatch returns a batch with the defaults that value returns for the [BatchKeys]; ""
// means none. The error is a [*tasks.InvalidError] if one cannot be parsed.
func ParseBatch(name string, value func(key string) string) (tasks.Batch, error) {
	r, err := tasks.ParseText(func(key string) string {
		switch {
		case key == column.ID:
			return "-" // a placeholder
		case slices.Contains(BatchKeys(), key):
			return value(key)
		}
		return ""
	})
	return tasks.Batch{Name: name, Options: tasks.Options{
		RedirectURL: r.RedirectURL, ExpiryMinutes: r.ExpiryMinutes, DocumentOptional: r.DocumentOptional,
		WorkflowID: r.WorkflowID, CallbackURL: r.CallbackURL, NotAfter: r.NotAfter,
	}}, err
}
