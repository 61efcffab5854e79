//! The dashboards as Grafana's JSON.

use anyhow::Context;
use serde_json::{Value, json};

use super::source::{Common, Dashboard, Kind, Panel, Query, Row, Source, Variable};

/// Grafana upgrades older schemas when it loads them; this is that of Grafana 11.
const SCHEMA_VERSION: u32 = 39;
/// Grafana's grid.
pub(super) const COLUMNS: u32 = 24;

/// One dashboard.
pub(super) fn json(source: &Source, dashboard: &Dashboard) -> anyhow::Result<Value> {
    let variables = dashboard.variables.iter().map(|name| variable(&source.common, name, dashboard));
    let mut list = vec![data_source_variable()];
    list.extend(variables.collect::<anyhow::Result<Vec<_>>>()?);
    Ok(json!({
        "annotations": {"list": []},
        "description": dashboard.description,
        "editable": false,
        "graphTooltip": 1,
        "links": [{
            "asDropdown": true, "icon": "external link", "includeVars": true, "keepTime": true, "tags": ["docker-stats-exporter"],
            "targetBlank": false, "title": "Docker", "tooltip": "The other dashboards", "type": "dashboards", "url": "",
        }],
        "panels": panels(source, dashboard)?,
        "refresh": "1m",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["docker-stats-exporter"],
        "templating": {"list": list},
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": dashboard.title,
        "uid": dashboard.uid,
        "version": 1,
    }))
}

/// Adds a key to an object.
fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

fn data_source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn data_source_variable() -> Value {
    json!({
        "name": "datasource", "label": "Data source", "description": "The Prometheus that has the exporter's samples.",
        "type": "datasource", "query": "prometheus", "hide": 0, "includeAll": false, "multi": false,
        "options": [], "refresh": 1, "regex": "", "skipUrlSync": false,
    })
}

/// A variable. A dashboard that is about one host or one container takes one of them and not many.
fn variable(common: &Common, name: &str, dashboard: &Dashboard) -> anyhow::Result<Value> {
    let Variable { label, query, description } =
        common.variables.get(name).with_context(|| format!("there is no variable {name}"))?;
    let query = common.expand(query);
    let is_one = (name == "instance" && dashboard.file == "host") || (name == "name" && dashboard.file == "container");
    let mut variable = json!({
        "name": name, "label": label, "description": description, "type": "query", "datasource": data_source(),
        "query": {"query": query, "refId": format!("Variable-{name}")}, "hide": 0, "options": [],
        // On each change of the time range, as containers come and go.
        "refresh": 2, "regex": "", "skipUrlSync": false, "sort": 1, "multi": !is_one, "includeAll": !is_one,
    });
    if !is_one {
        // `.*` finds series without the label, too.
        set(&mut variable, "allValue", json!(".*"));
        set(&mut variable, "current", json!({"selected": true, "text": ["All"], "value": ["$__all"]}));
    }
    Ok(variable)
}

/// Rows and panels in reading order, from left to right.
fn panels(source: &Source, dashboard: &Dashboard) -> anyhow::Result<Vec<Value>> {
    let mut panels = Vec::new();
    let (mut id, mut top) = (0, 0);
    for row in &dashboard.rows {
        id += 1;
        let mut heading = heading(row, id, top);
        top += 1;
        let (positions, bottom) = positions(row, top);
        let mut children = Vec::new();
        for (panel, position) in row.panels.iter().zip(positions) {
            id += 1;
            children.push(self::panel(source, panel, id, &position).with_context(|| panel.title.clone())?);
        }
        if row.collapsed {
            set(&mut heading, "panels", Value::Array(children));
            panels.push(heading);
        } else {
            top = bottom;
            panels.push(heading);
            panels.extend(children);
        }
    }
    Ok(panels)
}

fn heading(row: &Row, id: u32, top: u32) -> Value {
    json!({
        "type": "row", "id": id, "title": row.title, "collapsed": row.collapsed, "panels": [],
        "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
    })
}

/// The positions of the panels of a row, and where the next row begins.
fn positions(row: &Row, mut top: u32) -> (Vec<Value>, u32) {
    let (mut left, mut highest) = (0, 0);
    let mut positions = Vec::new();
    for panel in &row.panels {
        if left + panel.width > COLUMNS {
            (left, top, highest) = (0, top + highest, 0);
        }
        positions.push(json!({"h": panel.height, "w": panel.width, "x": left, "y": top}));
        left += panel.width;
        highest = highest.max(panel.height);
    }
    (positions, top + highest)
}

fn panel(source: &Source, panel: &Panel, id: u32, position: &Value) -> anyhow::Result<Value> {
    let link = panel.open.as_deref().map(|name| link(source, panel, name)).transpose()?;
    let targets: Vec<Value> =
        panel.queries.iter().enumerate().map(|(index, query)| target(source, panel, query, index)).collect();
    let (kind, options, custom) = drawing(panel);
    let mut defaults = json!({"unit": panel.unit, "custom": custom});
    if matches!(panel.kind, Kind::Timeseries | Kind::Bars) {
        set(&mut defaults, "min", json!(0));
    }
    if let Some(reason) = panel.queries.first().and_then(|query| query.empty.as_deref()) {
        set(&mut defaults, "noValue", json!(format!("No data: {reason}")));
    }
    if let (Some(link), Kind::Timeseries | Kind::Bars) = (&link, panel.kind) {
        set(&mut defaults, "links", json!([link]));
    }
    let mut value = json!({
        "id": id, "type": kind, "title": panel.title, "description": panel.description, "datasource": data_source(),
        "gridPos": position, "maxDataPoints": 300, "options": options, "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": overrides(panel, link.as_ref())},
    });
    if panel.kind == Kind::Table {
        set(&mut value, "transformations", transformations(panel));
    }
    Ok(value)
}

/// The letter by which Grafana calls a query.
fn reference(index: usize) -> String {
    char::from_u32(u32::from('A') + u32::try_from(index).unwrap_or_default()).unwrap_or('A').to_string()
}

fn target(source: &Source, panel: &Panel, query: &Query, index: usize) -> Value {
    let format = match panel.kind {
        Kind::Table => "table",
        Kind::Heatmap => "heatmap",
        _ => "time_series",
    };
    let is_instant = panel.kind.is_instant();
    json!({
        "refId": reference(index), "datasource": data_source(), "editorMode": "code", "format": format,
        "expr": source.common.expand(&query.expr), "legendFormat": query.legend, "instant": is_instant, "range": !is_instant,
    })
}

/// The link from a series or a row of a table to a dashboard, with what is known of it.
fn link(source: &Source, panel: &Panel, name: &str) -> anyhow::Result<Value> {
    let target = source.dashboards.iter().find(|dashboard| dashboard.file == name);
    let target = target.with_context(|| format!("there is no dashboard {name}"))?;
    let label = |label: &str| match panel.kind {
        Kind::Table => format!("${{__data.fields.{label}}}"),
        _ => format!("${{__field.labels.{label}}}"),
    };
    let mut url = format!("/d/{}?${{__url_time_range}}&${{datasource:queryparam}}&${{job:queryparam}}", target.uid);
    url.extend([format!("&var-instance={}", label("instance"))]);
    if name == "container" {
        url.extend([format!("&var-name={}&var-id={}", label("name"), label("id"))]);
    }
    Ok(json!({"title": format!("Open {}", target.title), "url": url, "targetBlank": false}))
}

/// Type, options and drawing of a panel.
fn drawing(panel: &Panel) -> (&'static str, Value, Value) {
    let reduce = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
    match panel.kind {
        Kind::Stat => {
            let options = json!({
                "reduceOptions": reduce, "colorMode": "none", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
                "textMode": "auto", "wideLayout": true, "showPercentChange": false,
            });
            ("stat", options, json!({}))
        }
        Kind::Timeseries => {
            let options = json!({
                "legend": {"showLegend": true, "displayMode": "list", "placement": "bottom", "calcs": []},
                "tooltip": {"mode": "multi", "sort": "desc"},
            });
            let stacking = json!({"mode": if panel.stack { "normal" } else { "none" }, "group": "A"});
            let custom = json!({
                "drawStyle": "line", "lineWidth": 1, "fillOpacity": if panel.stack { 40 } else { 5 }, "showPoints": "never",
                "spanNulls": false, "stacking": stacking,
            });
            ("timeseries", options, custom)
        }
        Kind::Table => {
            ("table", json!({"showHeader": true, "cellHeight": "sm"}), json!({"align": "auto", "filterable": true}))
        }
        Kind::Bars => {
            let options = json!({
                "reduceOptions": reduce, "displayMode": "basic", "orientation": "horizontal", "showUnfilled": true,
                "valueMode": "color", "namePlacement": "auto", "sizing": "auto", "minVizHeight": 16, "minVizWidth": 8,
                "maxVizHeight": 300, "legend": {"showLegend": false, "displayMode": "list", "placement": "bottom", "calcs": []},
            });
            ("bargauge", options, json!({}))
        }
        Kind::Heatmap => {
            let options = json!({
                "calculate": false, "cellGap": 1, "cellValues": {"unit": "short"}, "showValue": "never",
                "color": {"mode": "scheme", "scheme": "Oranges", "fill": "dark-orange", "steps": 64, "exponent": 0.5, "reverse": false},
                "exemplars": {"color": "rgba(255,0,255,0.7)"}, "filterValues": {"le": 1e-9}, "legend": {"show": true},
                "rowsFrame": {"layout": "auto"}, "tooltip": {"mode": "single", "yHistogram": false, "showColorScale": false},
                "yAxis": {"axisPlacement": "left", "reverse": false, "unit": panel.unit},
            });
            ("heatmap", options, json!({}))
        }
    }
}

/// Dashed lines over what is stacked, units and links of columns.
fn overrides(panel: &Panel, link: Option<&Value>) -> Vec<Value> {
    let mut overrides = Vec::new();
    for (index, query) in panel.queries.iter().enumerate() {
        if query.line {
            overrides.push(json!({
                "matcher": {"id": "byFrameRefID", "options": reference(index)},
                "properties": [
                    {"id": "custom.stacking", "value": {"mode": "none", "group": "A"}},
                    {"id": "custom.fillOpacity", "value": 0},
                    {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
                ],
            }));
        }
        if let Some(unit) = &query.unit {
            overrides.push(json!({
                "matcher": {"id": "byName", "options": query.legend},
                "properties": [{"id": "unit", "value": unit}],
            }));
        }
    }
    if let (Some(link), Kind::Table) = (link, panel.kind) {
        overrides.push(json!({
            "matcher": {"id": "byRegexp", "options": "/^(instance|name|id)$/"},
            "properties": [{"id": "links", "value": [link]}],
        }));
    }
    overrides
}

/// Puts the queries of a table beside each other, with titles for their values.
fn transformations(panel: &Panel) -> Value {
    let several = panel.queries.len() > 1;
    let titles = panel.queries.iter().enumerate().map(|(index, query)| {
        let value = if several { format!("Value #{}", reference(index)) } else { "Value".to_owned() };
        (value, Value::from(query.legend.as_str()))
    });
    let titles: serde_json::Map<String, Value> = titles.collect();
    json!([
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": true}, "indexByName": {}, "renameByName": titles}},
    ])
}

#[cfg(test)]
mod tests {
    use super::{positions, reference};
    use crate::deploy::source::Row;

    #[test]
    fn panels_fill_a_line_and_then_the_next_below_the_highest() {
        let row = "{title: r, panels: [
            {title: a, kind: stat, width: 12, height: 4, unit: s, description: d, queries: []},
            {title: b, kind: stat, width: 12, unit: s, description: d, queries: []},
            {title: c, kind: stat, width: 6, height: 3, unit: s, description: d, queries: []}]}";
        let row: Row = serde_saphyr::from_str(row).unwrap();
        let (positions, bottom) = positions(&row, 1);
        let of = |index: usize, key: &str| positions[index][key].as_u64().unwrap();
        assert_eq!([of(0, "x"), of(0, "y"), of(1, "x"), of(1, "y"), of(2, "x"), of(2, "y")], [0, 1, 12, 1, 0, 9]);
        assert_eq!(bottom, 12);
        assert_eq!((reference(0).as_str(), reference(2).as_str()), ("A", "C"));
    }
}
