package linktask_test

import (
	"slices"
	"testing"

	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

func TestBundled_ReturnsTheTurnsThatItCanDecode(t *testing.T) {
	t.Parallel()
	turns, undecodable := linktask.Bundled([]byte("A-1:1:1:1\nnonsense\nA:2:3:1:12\n\nA-2:01:1:1"))
	want := []request.Ref{
		{ApplicationID: "A-1", Generation: 1, Run: 1, Turn: 1}, {ApplicationID: "A:2", Generation: 3, Run: 1, Turn: 12},
	}
	if !slices.Equal(turns, want) || !slices.Equal(undecodable, []string{"nonsense", "", "A-2:01:1:1"}) {
		t.Errorf("got turns %v, and undecodable lines %q", turns, undecodable)
	}
}
