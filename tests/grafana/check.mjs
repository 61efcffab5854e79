// Compares dashboards with Grafana's published types: node check.mjs DASHBOARD.json...
//
// Each becomes a literal of the type Dashboard, and the options and the drawing of each panel literals of the types of its panel: the
// compiler then finds what is missing, misspelt, or of a wrong type.

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import ts from 'typescript';

const RAW = '@grafana/schema/dist/esm/raw';
// By type of panel: the module of its types, and whether its drawing has one.
const PANELS = {
    stat: ['stat/panelcfg/x/StatPanelCfg_types.gen', false],
    timeseries: ['timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen', true],
    table: ['table/panelcfg/x/TablePanelCfg_types.gen', true],
    bargauge: ['bargauge/panelcfg/x/BarGaugePanelCfg_types.gen', false],
    heatmap: ['heatmap/panelcfg/x/HeatmapPanelCfg_types.gen', true],
};

// JSON has the values of enumerations, not their names; what has a default may be left out.
const HEADER = `
import type { Dashboard } from '${RAW}/dashboard/x/Dashboard_types.gen';
${Object.entries(PANELS).map(([kind, [module]]) => `import type * as ${kind} from '${RAW}/composable/${module}';`).join('\n')}
type Json<T> = T extends string ? \`\${T}\` : T extends boolean | number | null | undefined ? T
    : T extends (infer E)[] ? Json<E>[] : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
`;

function source(dashboard) {
    const lines = [HEADER, `const dashboard: Json<Dashboard> = ${JSON.stringify(dashboard, null, 1)};`];
    const panels = dashboard.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]).filter((panel) => panel.type !== 'row');
    for (const { id, type, options, fieldConfig } of panels) {
        if (!(type in PANELS)) throw new Error(`the type of a panel is not known here: ${type}`);
        lines.push(`const options${id}: Partial<Json<${type}.Options>> = ${JSON.stringify(options, null, 1)};`);
        if (PANELS[type][1]) {
            const custom = JSON.stringify(fieldConfig.defaults.custom, null, 1);
            lines.push(`const custom${id}: Partial<Json<${type}.FieldConfig>> = ${custom};`);
        }
    }
    return lines.join('\n');
}

const files = new Map(process.argv.slice(2).map((path) => [
    `${import.meta.dirname}/${basename(path, '.json')}.ts`,
    source(JSON.parse(readFileSync(path, 'utf8'))),
]));
if (files.size === 0) throw new Error('no dashboard');
const options = {
    strict: true, noEmit: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler, types: [],
};
const host = ts.createCompilerHost(options);
const { getSourceFile, fileExists, readFile } = host;
host.fileExists = (name) => files.has(name) || fileExists(name);
host.readFile = (name) => files.get(name) ?? readFile(name);
host.getSourceFile = (name, version) =>
    files.has(name) ? ts.createSourceFile(name, files.get(name), version) : getSourceFile(name, version);
const program = ts.createProgram([...files.keys()], options, host);
const diagnostics = ts.getPreEmitDiagnostics(program);
process.stdout.write(ts.formatDiagnostics(diagnostics, {
    getCurrentDirectory: () => import.meta.dirname, getCanonicalFileName: (name) => name, getNewLine: () => '\n',
}));
process.exit(diagnostics.length === 0 ? 0 : 1);
