package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/kyclink/kyclink/internal/doctest"
)

var manDir = flag.String("man", "", "write man pages to this directory, and run no test")

// documented returns the command tree that the reference and the man pages show.
func documented() *cobra.Command {
	root := newRoot()
	root.DisableAutoGenTag = true
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// commands returns a command and all its visible subcommands.
func commands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden && sub.Name() != "help" && !sub.IsAdditionalHelpTopicCommand() {
			all = append(all, commands(sub)...)
		}
	}
	return all
}

const cliIntro = `# Commands

*Generated from the help texts; do not edit.*

Every command has ` + "`--help`" + `, and ` + "`--json`" + ` if it prints data. Data goes to standard output, everything else to standard error.
[Settings](settings.md) come from environment variables.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | error |
| 2 | done, but some row or the request has no link |
| 3 | stopped waiting; nothing is lost |
| 64 | usage error |
| 65 | the input file cannot be used |
| 78 | settings error |
| 130, 143 | interrupted; run the same command again to continue |
| 141 | nobody reads the output any more |
`

func TestCLIReference_MatchesHelp(t *testing.T) {
	t.Parallel()
	var page strings.Builder
	page.WriteString(cliIntro + "\n## Contents\n")
	root := documented()
	var all []*cobra.Command
	for _, group := range root.Groups() {
		fmt.Fprintf(&page, "\n**%s**\n\n", strings.TrimSuffix(group.Title, ":"))
		for _, top := range root.Commands() {
			if top.GroupID != group.ID || top.Hidden || top.Name() == "help" {
				continue
			}
			for _, cmd := range commands(top) {
				indent := strings.Repeat("  ", strings.Count(cmd.CommandPath(), " ")-1)
				fmt.Fprintf(&page, "%s- [%s](#%s): %s\n", indent, cmd.CommandPath(), strings.ReplaceAll(cmd.CommandPath(), " ", "-"), inMarkdown(cmd.Short))
				all = append(all, cmd)
			}
		}
	}
	if len(all) != len(commands(root))-1 {
		t.Errorf("%d commands are in a group, of %d", len(all), len(commands(root))-1)
	}
	for _, cmd := range all {
		fmt.Fprintf(&page, "\n## %s\n\n", cmd.CommandPath())
		if cmd.Long != "" {
			page.WriteString("```text\n" + strings.TrimSpace(cmd.Long) + "\n```\n")
		} else {
			page.WriteString(inMarkdown(strings.ToUpper(cmd.Short[:1])+cmd.Short[1:]) + ".\n")
		}
		if cmd.Runnable() && !cmd.HasSubCommands() {
			page.WriteString("\n```text\n" + cmd.UseLine() + "\n```\n")
		}
		if cmd.Example != "" {
			page.WriteString("\nExamples:\n\n```sh\n" + strings.TrimRight(unindented(cmd.Example), "\n") + "\n```\n")
		}
		page.WriteString(flagTable(cmd))
	}
	doctest.Generated(t, "docs/cli.md", page.String())
}

func flagTable(cmd *cobra.Command) string {
	var rows strings.Builder
	cmd.InitDefaultHelpFlag()
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if value != "" {
			name += " " + value
		}
		if slices.Contains([]string{"", "false", "[]", "0s"}, f.DefValue) {
			fmt.Fprintf(&rows, "| `%s` | %s |\n", name, inMarkdown(usage))
			return
		}
		fmt.Fprintf(&rows, "| `%s` | %s (default `%s`) |\n", name, inMarkdown(usage), f.DefValue)
	})
	if rows.Len() == 0 {
		return ""
	}
	return "\n| flag | |\n| --- | --- |\n" + rows.String()
}

// inMarkdown escapes the Markdown characters of a help text.
func inMarkdown(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "<", `\<`).Replace(text)
}

// unindented removes the two spaces before the lines of an example.
func unindented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "  ")
	}
	return strings.Join(lines, "\n")
}

// writeManPages writes the man page of every command to a directory. Its pages are of the
// time in SOURCE_DATE_EPOCH, if that is set.
func writeManPages(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return doc.GenManTree(documented(), &doc.GenManHeader{Section: "1", Source: "kyclink", Manual: "kyclink"}, dir)
}

func TestManPages_CoverEveryCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := writeManPages(dir); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range commands(documented()) {
		file := dir + "/" + strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		page, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(page, []byte(".SH SYNOPSIS")) {
			t.Errorf("man page of %s: %v\n%s", cmd.CommandPath(), err, page)
		}
	}
}

// TestDocs_CommandLinesParse parses every kyclink command line of the documentation with
// the real commands, which checks the command, its flags and their values. In code blocks
// it also checks the arguments.
func TestDocs_CommandLinesParse(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, page := range doctest.Pages(t) {
		for _, code := range page.Code() {
			for i, words := range commandLines(code) {
				checked++
				if err := parseCommand(words, !code.Inline); err != nil {
					t.Errorf("%s:%d: command line %d, kyclink %s: %v", page.Path, code.Line, i+1, strings.Join(words, " "), err)
				}
			}
		}
	}
	if checked < 50 {
		t.Errorf("checked %d command lines only", checked)
	}
}

var invocation = regexp.MustCompile(`(?m)(?:^|[\s(|;&/])kyclink[ \t]+(.*)$`)

// commandLines returns the words of each kyclink command line in a piece of code.
func commandLines(code doctest.Code) [][]string {
	text := code.Text
	switch {
	case code.Inline:
		if !strings.HasPrefix(text, "kyclink ") {
			return nil
		}
		text = strings.ReplaceAll(text, `\|`, "|")
	case code.Language == "console":
		var typed []string
		for line := range strings.SplitSeq(text, "\n") {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				typed = append(typed, command)
			}
		}
		text = strings.Join(typed, "\n")
	case code.Language != "sh":
		return nil
	}
	text = strings.ReplaceAll(text, "\\\n", " ")
	var all [][]string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, m := range invocation.FindAllStringSubmatch(line, -1) {
			all = append(all, words(m[1]))
		}
	}
	return all
}

// words splits a command line as a shell does, up to the end of the command.
func words(line string) []string {
	var all []string
	var word strings.Builder
	started := false
	var quote rune
	end := func() {
		if started {
			all = append(all, word.String())
		}
		word.Reset()
		started = false
	}
	for _, c := range line {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				word.WriteRune(c)
			}
		case c == '\'' || c == '"':
			quote, started = c, true
		case c == ' ' || c == '\t':
			end()
		case strings.ContainsRune("|;&)><", c), c == '#' && !started:
			if c == '>' && word.String() == "2" { // 2>file
				started = false
			}
			end()
			return all
		default:
			word.WriteRune(c)
			started = true
		}
	}
	end()
	return all
}

func parseCommand(words []string, whole bool) error {
	root := documented()
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	args := cmd.Flags().Args()
	if cmd.HasSubCommands() && len(args) > 0 {
		return fmt.Errorf("%s has no command %s", cmd.CommandPath(), args[0])
	}
	if help, _ := cmd.Flags().GetBool("help"); help || !whole {
		return nil
	}
	if err := cmd.ValidateArgs(args); err != nil {
		return err
	}
	return cmd.ValidateRequiredFlags()
}

func TestCommandLines_AreFoundInCode(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"kyclink worker &": {"worker"},
		"A=b kyclink run 'a b.csv' -o \"c.csv\" # note": {"run", "a b.csv", "-o", "c.csv"},
		"KEY=$(kyclink keys create --scope enqueue)":    {"keys", "create", "--scope", "enqueue"},
		"zstd -dc a | kyclink import - --batch b >> c":  {"import", "-", "--batch", "b"},
		"kyclink run x \\\n  -o y 2> log":               {"run", "x", "-o", "y"},
		"# kyclink nothing":                             nil,
	} {
		var got []string
		for _, line := range commandLines(doctest.Code{Language: "sh", Text: text}) {
			got = append(got, line...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	for _, wrong := range [][]string{{"rum", "x"}, {"run", "--no-such-flag"}, {"batch", "exprot", "x"}, {"run", "x", "--patience", "soon"}} {
		if err := parseCommand(wrong, false); err == nil {
			t.Errorf("kyclink %q parses", wrong)
		}
	}
	for _, wrong := range [][]string{{"run"}, {"show"}, {"worker", "x"}} {
		if err := parseCommand(wrong, true); err == nil {
			t.Errorf("kyclink %q is whole", wrong)
		}
	}
}
