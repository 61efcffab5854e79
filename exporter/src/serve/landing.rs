//! The page at `/`, for a human who wonders what runs here. Called by `route`.

use std::fmt::Write as _;

/// The paths beside the metrics, and what they give.
const HEALTH: [(&str, &str); 2] =
    [("/healthz", "200 while this program serves"), ("/readyz", "200 once containers were looked for")];

/// The whole page.
pub(super) fn page(telemetry_path: &str, version: &str, findings: &[(String, String)]) -> String {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>docker-stats-exporter</title>\n\
         </head>\n<body>\n<h1>docker-stats-exporter</h1>\n\
         <p>Prometheus metrics of every container on this host. Version ",
    );
    escape(&mut page, version);
    page.push_str(".</p>\n<ul>\n");
    for (path, about) in std::iter::once((telemetry_path, "the metrics")).chain(HEALTH) {
        link(&mut page, path, about);
    }
    page.push_str("</ul>\n");
    list(&mut page, findings);
    page.push_str("</body>\n</html>\n");
    page
}

/// Relative, so that the page also works behind a proxy that serves it under a prefix.
fn link(page: &mut String, path: &str, about: &str) {
    page.push_str("<li><a href=\".");
    escape(page, path);
    page.push_str("\">");
    escape(page, path);
    page.push_str("</a>: ");
    escape(page, about);
    page.push_str("</li>\n");
}

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

/// Appends text so that it is text, in an element or a quoted attribute. Control characters, which HTML does not allow,
/// become the replacement character.
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
        for expected in ["href=\"./prom\"", "href=\"./healthz\"", "href=\"./readyz\"", "Version 1.2.3."] {
            assert!(page.contains(expected), "{expected} in {page}");
        }
        assert!(!page.contains("<dl>"), "an empty list is not valid HTML");
    }

    #[test]
    fn findings_cannot_break_out_of_the_page() {
        let hostile = "<script>alert('x')</script>&\"\u{0}".to_owned();
        let page = page("/\"><b>", "<i>", &[(hostile.clone(), hostile)]);
        assert!(!page.contains("<script>") && !page.contains("<b>") && !page.contains("<i>"), "{page}");
        assert!(page.contains("&#60;script&#62;alert(&#39;x&#39;)&#60;/script&#62;&#38;&#34;\u{fffd}"), "{page}");
    }
}
