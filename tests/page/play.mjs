// Serves the document of a running exporter, and metrics that a script makes up: for what no real host does at the right moment.
import http from "node:http";
import zlib from "node:zlib";

/**
 * @param {string} origin the exporter whose document is served under every path that does not end in /metrics
 * @param {Function} answer takes the number of the request; returns `text`, and `status`, `headers` or `drop` if they matter
 */
export async function play(origin, answer) {
    const player = { count: 0, answer };
    const server = http.createServer(async (request, response) => {
        const { pathname } = new URL(request.url, origin);
        if (!pathname.endsWith("/metrics")) {
            const page = await fetch(origin);
            const headers = Object.fromEntries([...page.headers].filter(([name]) => !["content-encoding", "content-length", "connection", "transfer-encoding", "keep-alive"].includes(name)));
            response.writeHead(200, headers).end(await page.text());
            return;
        }
        player.path = pathname;
        player.count += 1;
        const { status = 200, text = "", headers = {}, drop = false } = player.answer(player.count, request.url);
        if (drop) {
            request.socket.destroy();
            return;
        }
        response.writeHead(status, { "Content-Type": "text/plain; version=0.0.4; charset=utf-8", "Content-Encoding": "gzip", ...headers });
        response.end(zlib.gzipSync(text, { level: 1 }));
    });
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
    player.url = `http://127.0.0.1:${server.address().port}/`;
    player.stop = () => server.closeAllConnections();
    return player;
}

const escape = (text) => text.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");

/** Returns the exposition of containers, each `{ id, name, image, project, values: { family: value } , state }`, and of a host. */
export function exposition(containers, host = {}) {
    const lines = ["machine_cpu_cores 2", "machine_memory_bytes 8589934592"];
    for (const [family, value] of Object.entries(host)) lines.push(`${family}{id="/",image="",name=""} ${value}`);
    for (const { id, name = "", image = "", project, state = "running", values = {} } of containers) {
        const group = project === undefined ? "" : `container_label_com_docker_compose_project="${escape(project)}",`;
        const labels = `${group}id="${escape(id)}",image="${escape(image)}",name="${escape(name)}"`;
        if (state !== null) lines.push(`container_state{${labels},state="${state}"} 1`);
        for (const [family, value] of Object.entries(values)) lines.push(`${family}{${labels}} ${value}`);
    }
    return `${lines.join("\n")}\n`;
}

/** Returns the id of the nth container. */
export const id = (number) => `/docker/${number.toString(16).padStart(64, "0")}`;
