//! Renders the live page at `/`, whose script fetches the metrics while it is open. Called by `route`.
//!
//! `build_page.rs` builds the template from `exporter/page`. Here the paths, the version and the findings on this host are
//! added, which the page shows without JavaScript, too.

use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::HeaderValue;

/// The document with marks such as `{{version}}`, which [`page`] replaces.
const TEMPLATE: &str = include_str!(concat!(env!("OUT_DIR"), "/page.html"));

/// The Content-Security-Policy. It allows the script and the style of the document and nothing else.
pub(super) const POLICY: HeaderValue = HeaderValue::from_static(env!("PAGE_POLICY"));

/// Returns the whole document.
pub(super) fn page(telemetry_path: &str, version: &str, findings: &[(String, String)]) -> String {
    let mut page = String::with_capacity(TEMPLATE.len() + 4096);
    // Only the template is searched for marks, so that values may contain them.
    for (index, piece) in TEMPLATE.split("{{").enumerate() {
        let (mark, rest) = if index == 0 { ("", piece) } else { piece.split_once("}}").unwrap_or(("", piece)) };
        match mark {
            "metrics" => escape(&mut page, telemetry_path),
            "version" => escape(&mut page, version),
            "findings" => list(&mut page, findings),
            _ => {}
        }
        page.push_str(rest);
    }
    page
}

/// Returns the entity tag of a document.
pub(super) fn entity_tag(page: &str, gzip: bool) -> String {
    format!("\"{:08x}{}\"", crc32fast::hash(page.as_bytes()), if gzip { "-gzip" } else { "" })
}

/// Compresses the document with gzip; none on an error, which a `Vec` never gives.
pub(super) fn compress(page: &str) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(page.as_bytes()).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// Appends the findings as a definition list. An empty list would not be valid HTML.
fn list(page: &mut String, findings: &[(String, String)]) {
    if findings.is_empty() {
        return;
    }
    page.push_str("<h2>Found on this host</h2>\n<dl>\n");
    for (term, description) in findings {
        page.push_str("<dt>");
        escape(page, term);
        page.push_str("</dt>\n<dd>");
        escape(page, description);
        page.push_str("</dd>\n");
    }
    page.push_str("</dl>\n");
}

/// Appends text, escaped for an element or a quoted attribute. Control characters, which HTML does not allow, are replaced.
fn escape(page: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' | '<' | '>' | '"' | '\'' => {
                // Writing to a String cannot fail.
                _ = write!(page, "&#{};", u32::from(character));
            }
            '\n' | '\t' => page.push(character),
            _ if character.is_control() => page.push(char::REPLACEMENT_CHARACTER),
            _ => page.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_links_to_every_path_and_names_the_version() {
        let page = page("/prom", "1.2.3", &[]);
        for expected in
            ["data-metrics=\"/prom\"", "href=\"./prom\"", "href=\"./healthz\"", "href=\"./readyz\"", "exporter 1.2.3:"]
        {
            assert!(page.contains(expected), "{expected} in {page}");
        }
        assert!(!page.contains("{{"), "a mark is left");
        assert!(!page.contains("Found on this host"), "an empty list is not valid HTML");
    }

    #[test]
    fn findings_cannot_break_out_of_the_page() {
        let plain = page("/metrics", "1", &[]);
        let hostile = "<script>alert('x')</script>&\"\u{0}{{metrics}}".to_owned();
        let page = page("/\"><b>", "<i>", &[(hostile.clone(), hostile)]);
        let tags = |page: &str, tag: &str| page.matches(tag).count();
        for tag in ["<script", "<b>", "<i>"] {
            assert_eq!(tags(&page, tag), tags(&plain, tag), "{tag}");
        }
        assert!(
            page.contains("&#60;script&#62;alert(&#39;x&#39;)&#60;/script&#62;&#38;&#34;\u{fffd}{{metrics}}"),
            "{page}"
        );
    }

    #[test]
    fn the_document_weighs_less_than_sixty_kilobytes_and_asks_nobody_else() {
        let page = page("/metrics", "1.2.3", &[]);
        let compressed = compress(&page).expect("gzip");
        assert!(compressed.len() < 60_000, "{} bytes", compressed.len());
        let addresses: Vec<_> =
            page.match_indices("http").map(|(at, _)| page[at..].chars().take(40).collect::<String>()).collect();
        assert!(addresses.iter().all(|address| address.starts_with("http://www.w3.org/2000/svg")), "{addresses:?}");
    }
}
