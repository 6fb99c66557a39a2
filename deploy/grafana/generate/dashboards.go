package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// dashboards returns the dashboards by the names of their files.
func dashboards() map[string]*dashboard.DashboardBuilder {
	return map[string]*dashboard.DashboardBuilder{"kyclink-account.json": accounts(), "kyclink-processes.json": processes()}
}

const (
	runbook = "https://github.com/kyclink/kyclink/blob/main/docs/operations.md"
	// chosen selects the accounts that the variable account names.
	chosen = `account=~"$account"`
)

func newDashboard(uid, title, description string) *dashboard.DashboardBuilder {
	return dashboard.NewDashboardBuilder(title).Uid(uid).Description(description).Tags([]string{"kyclink"}).
		Refresh("30s").Time("now-3h", "now").Timezone(common.TimeZoneBrowser).Readonly().Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Link(dashboard.NewDashboardLinkBuilder("Operations").Type(dashboard.DashboardLinkTypeLink).Url(runbook).TargetBlank(true)).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Prometheus").Type("prometheus"))
}

// accounts shows what all processes of an account say alike: metrics that are read from Redis.
func accounts() *dashboard.DashboardBuilder {
	d := newDashboard("kyclink-account", "kyclink: account", "Whether people get their links and, if not, why.").
		WithVariable(dashboard.NewQueryVariableBuilder("account").Label("Account").Datasource(source()).
			Query(dashboard.StringOrMap{String: cog.ToPtr("label_values(kyclink_workers, account)")}).
			Refresh(dashboard.VariableRefreshOnTimeRangeChanged).IncludeAll(true).Multi(true).Sort(dashboard.VariableSortAlphabeticalAsc))
	d.WithRow(dashboard.NewRowBuilder("Now")).
		WithPanel(number("Links in the last hour", "short", "sum(max by (account) (increase(kyclink_requests_ended_total{"+chosen+`,status="created"}[1h])))`)).
		WithPanel(number("Oldest wait of a person", "s", "max(kyclink_backlog_oldest_age_seconds{"+chosen+`,lane="interactive"})`)).
		WithPanel(number("Backlog", "short", "sum(max by (account, lane) (kyclink_backlog_requests{"+chosen+"}))")).
		WithPanel(number("Workers", "short", "sum(max by (account) (kyclink_workers{"+chosen+"}))")).
		WithPanel(number("Held requests", "short", "sum(max by (account) (kyclink_requests_held{"+chosen+"}))")).
		WithPanel(number("Possible duplicates today", "short", "sum(max by (account) (increase(kyclink_possible_duplicates_total{"+chosen+"}[1d])))"))
	d.WithRow(dashboard.NewRowBuilder("Links")).
		WithPanel(chart("Ends of requests", "ops", "What requests end as, for each second.",
			query("sum by (status) (max by (account, status) (rate(kyclink_requests_ended_total{"+chosen+"}[$__rate_interval])))", "{{status}}"),
			query("sum(max by (account) (kyclink_rate_limit_calls_per_second{"+chosen+"}))", "rate limit"))).
		WithPanel(chart("Backlog", "short", "Waiting and queued requests.",
			query("sum by (lane) (max by (account, lane) (kyclink_backlog_requests{"+chosen+"}))", "{{lane}}"))).
		WithPanel(chart("Oldest waiting request", "s", "How long ago the oldest of the requests was accepted that are called next.",
			query("max by (account, lane) (kyclink_backlog_oldest_age_seconds{"+chosen+"})", "{{account}} {{lane}}"))).
		WithPanel(chart("Why the gate is closed", "short", "1 while FaceKi is not called for a reason.",
			query("max by (account, reason) (kyclink_gate_closed{"+chosen+"}) > 0", "{{account}} {{reason}}")))
	d.WithRow(dashboard.NewRowBuilder("What needs a person")).
		WithPanel(chart("Findings", "short", "1 for each code that kyclink status shows.",
			query("max by (account, code) (kyclink_status{"+chosen+`,code!~"idle|flowing|calling|in_queue|rate_limited|ramping|ended"}) > 0`, "{{account}} {{code}}"))).
		WithPanel(chart("Dead letters", "short", "Failed and held requests, and deliveries that were given up.",
			query("sum(max by (account) (kyclink_requests_failed{"+chosen+"}))", "failed"),
			query("sum(max by (account) (kyclink_requests_held{"+chosen+"}))", "held"),
			query("sum(max by (account) (kyclink_callbacks_given_up{"+chosen+"}))", "callbacks given up")))
	d.WithRow(dashboard.NewRowBuilder("Results and Redis")).
		WithPanel(chart("Consumers behind", "s", "Age of the oldest event that a group has not acknowledged.",
			query("max by (account, group) (kyclink_results_behind_seconds{"+chosen+"})", "{{account}} {{group}}"))).
		WithPanel(chart("Results stream", "percentunit", "How full the stream is. At its cap the oldest events are trimmed.",
			query("max by (account) (kyclink_results_entries{"+chosen+"} / kyclink_results_cap{"+chosen+"})", "{{account}}"))).
		WithPanel(chart("Callbacks", "short", "Deliveries that are not finished.",
			query("max by (account) (kyclink_callbacks_pending{"+chosen+"})", "{{account}}"))).
		WithPanel(chart("Memory of Redis", "bytes", "At the limit, Redis refuses writes.",
			query("max by (account) (kyclink_redis_memory_used_bytes{"+chosen+"})", "{{account}}"),
			query("max by (account) (kyclink_redis_memory_max_bytes{"+chosen+"})", "limit of {{account}}")))
	return d
}

// processes shows what each process counts itself.
func processes() *dashboard.DashboardBuilder {
	d := newDashboard("kyclink-processes", "kyclink: processes", "What workers and servers do, and how long it takes.")
	d.WithRow(dashboard.NewRowBuilder("Time until a link")).
		WithPanel(quantiles("From accept to link", "kyclink_link_duration_seconds", "lane")).
		WithPanel(quantiles("Wait for gate and rate", "kyclink_admission_wait_seconds", "lane")).
		WithPanel(quantiles("Calls to FaceKi", "kyclink_call_duration_seconds", "outcome")).
		WithPanel(chart("Outcomes of calls", "ops", "Calls to FaceKi for each second.",
			query("sum by (outcome, reason) (rate(kyclink_attempts_total[$__rate_interval])) > 0", "{{outcome}} {{reason}}")))
	d.WithRow(dashboard.NewRowBuilder("Callbacks and API")).
		WithPanel(chart("Attempts of callbacks", "ops", "Attempts for each second.",
			query("sum by (result, reason) (rate(kyclink_callback_attempts_total[$__rate_interval])) > 0", "{{result}} {{reason}}"))).
		WithPanel(quantiles("Callbacks", "kyclink_callback_duration_seconds", "")).
		WithPanel(chart("HTTP requests", "ops", "Answers of the API for each second.",
			query("sum by (status) (rate(kyclink_http_requests_total[$__rate_interval]))", "{{status}}"),
			query("sum(rate(kyclink_http_unauthorized_total[$__rate_interval]))", "without a valid key"))).
		WithPanel(quantiles("HTTP requests", "kyclink_http_request_duration_seconds", "")).
		WithPanel(chart("Intake stream", "ops", "Entries for each second.",
			query("sum by (result) (rate(kyclink_intake_entries_total[$__rate_interval]))", "{{result}}"))).
		WithPanel(chart("Repairs", "short", "What recovery repaired in 5 minutes.",
			query("sum by (kind) (increase(kyclink_sweep_mended_total[5m])) > 0", "{{kind}}")))
	d.WithRow(dashboard.NewRowBuilder("Processes")).
		WithPanel(chart("Redis accepts writes", "short", "0 if Redis refuses the writes of a process.", query("kyclink_redis_up", "{{instance}}"))).
		WithPanel(chart("Accounts that are not served", "short", "Accounts for which a process for several does not work.",
			query("count by (instance) (kyclink_account_ready == 0)", "{{instance}}"))).
		WithPanel(chart("Processor", "percentunit", "Processors that a process uses.",
			query("rate(process_cpu_seconds_total[$__rate_interval]) * on (instance) group_left kyclink_redis_up ^ 0", "{{instance}}"))).
		WithPanel(chart("Memory", "bytes", "Memory that a process uses.", query("process_resident_memory_bytes * on (instance) group_left kyclink_redis_up ^ 0", "{{instance}}"))).
		WithPanel(chart("Certificates", "s", "Time until the TLS certificate of a process expires.",
			query("kyclink_certificate_expiry_timestamp_seconds - time()", "{{instance}}")))
	return d
}

// source is the Prometheus that the variable datasource names.
func source() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("$datasource")}
}

func query(expression, legend string) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Expr(expression).LegendFormat(legend).Range().Exemplar(true).Datasource(source())
}

// chart is a panel of half the width.
func chart(title, unit, description string, queries ...*prometheus.DataqueryBuilder) *timeseries.PanelBuilder {
	panel := timeseries.NewPanelBuilder().Title(title).Description(description).Unit(unit).Min(0).Span(12).Height(8).
		FillOpacity(10).ShowPoints(common.VisibilityModeNever).Datasource(source()).
		Legend(common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom).ShowLegend(true)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	for _, q := range queries {
		panel.WithTarget(q)
	}
	return panel
}

// quantiles is a chart of a histogram: the median, and what one of a hundred exceeds.
func quantiles(title, metric, label string) *timeseries.PanelBuilder {
	by, legend := "le", ""
	if label != "" {
		by, legend = "le, "+label, "{{"+label+"}} "
	}
	q := func(share string) string {
		return fmt.Sprintf("histogram_quantile(%s, sum by (%s) (rate(%s_bucket[$__rate_interval])))", share, by, metric)
	}
	return chart(title, "s", "The median, and what one of a hundred exceeds. Points lead to traces, if tracing is on.",
		query(q("0.5"), legend+"median"), query(q("0.99"), legend+"99 %")).ShowPoints(common.VisibilityModeAuto)
}

// number is a small panel with one value.
func number(title, unit, expression string) *stat.PanelBuilder {
	return stat.NewPanelBuilder().Title(title).Unit(unit).Span(4).Height(4).Datasource(source()).
		GraphMode(common.BigValueGraphModeNone).WithTarget(prometheus.NewDataqueryBuilder().Expr(expression).Instant().Datasource(source()))
}
