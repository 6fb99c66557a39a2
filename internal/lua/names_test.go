package lua

import (
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// chunk is what a Lua file declares and what it uses without declaring it.
type chunk struct {
	declared []string // locals of the file itself
	free     []string // names that are declared nowhere in the file
	library  bool     // the file consists of local declarations
}

// readChunk parses a file, with Lua's rules of scope.
func readChunk(path, text string) (chunk, error) {
	statements, err := parse.Parse(strings.NewReader(text), path)
	if err != nil {
		return chunk{}, err
	}
	c := chunk{library: true}
	for _, s := range statements {
		local, ok := s.(*ast.LocalAssignStmt)
		if !ok {
			c.library = false
			continue
		}
		c.declared = append(c.declared, local.Names...)
	}
	r := &reader{}
	r.block(nil, statements)
	slices.Sort(r.free)
	c.free = slices.Compact(r.free)
	return c, nil
}

// reader collects the names that no scope declares.
type reader struct {
	scopes []map[string]bool
	free   []string
}

func (r *reader) declare(names ...string) {
	for _, n := range names {
		r.scopes[len(r.scopes)-1][n] = true
	}
}

// block reads statements in a scope of their own, with the names declared before.
func (r *reader) block(names []string, statements []ast.Stmt) {
	r.scopes = append(r.scopes, map[string]bool{})
	r.declare(names...)
	for _, s := range statements {
		r.statement(s)
	}
	r.scopes = r.scopes[:len(r.scopes)-1]
}

func (r *reader) statement(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.AssignStmt:
		r.expressions(s.Lhs...)
		r.expressions(s.Rhs...)
	case *ast.LocalAssignStmt:
		_, function := last(s.Exprs).(*ast.FunctionExpr)
		if function { // it may call itself
			r.declare(s.Names...)
		}
		r.expressions(s.Exprs...)
		r.declare(s.Names...)
	case *ast.FuncCallStmt:
		r.expressions(s.Expr)
	case *ast.DoBlockStmt:
		r.block(nil, s.Stmts)
	case *ast.WhileStmt:
		r.expressions(s.Condition)
		r.block(nil, s.Stmts)
	case *ast.RepeatStmt:
		r.block(nil, s.Stmts)
		r.expressions(s.Condition)
	case *ast.IfStmt:
		r.expressions(s.Condition)
		r.block(nil, s.Then)
		r.block(nil, s.Else)
	case *ast.NumberForStmt:
		r.expressions(s.Init, s.Limit, s.Step)
		r.block([]string{s.Name}, s.Stmts)
	case *ast.GenericForStmt:
		r.expressions(s.Exprs...)
		r.block(s.Names, s.Stmts)
	case *ast.ReturnStmt:
		r.expressions(s.Exprs...)
	}
}

func last(all []ast.Expr) ast.Expr {
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1]
}

func (r *reader) expressions(all ...ast.Expr) {
	for _, e := range all {
		r.expression(e)
	}
}

func (r *reader) expression(e ast.Expr) {
	switch e := e.(type) {
	case *ast.IdentExpr:
		if !slices.ContainsFunc(r.scopes, func(s map[string]bool) bool { return s[e.Value] }) {
			r.free = append(r.free, e.Value)
		}
	case *ast.AttrGetExpr:
		r.expressions(e.Object, e.Key)
	case *ast.TableExpr:
		for _, f := range e.Fields {
			r.expressions(f.Key, f.Value)
		}
	case *ast.FuncCallExpr:
		r.expressions(e.Func, e.Receiver)
		r.expressions(e.Args...)
	case *ast.LogicalOpExpr:
		r.expressions(e.Lhs, e.Rhs)
	case *ast.RelationalOpExpr:
		r.expressions(e.Lhs, e.Rhs)
	case *ast.StringConcatOpExpr:
		r.expressions(e.Lhs, e.Rhs)
	case *ast.ArithmeticOpExpr:
		r.expressions(e.Lhs, e.Rhs)
	case *ast.UnaryMinusOpExpr:
		r.expressions(e.Expr)
	case *ast.UnaryNotOpExpr:
		r.expressions(e.Expr)
	case *ast.UnaryLenOpExpr:
		r.expressions(e.Expr)
	case *ast.FunctionExpr:
		r.block(e.ParList.Names, e.Stmts)
	}
}
