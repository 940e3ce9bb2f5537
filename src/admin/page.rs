//! The page: files of `src/admin/page/`, inside the program. The page loads and runs nothing else.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::body::{Answer, typed};
use crate::digest::sha256_of_parts;

/// One file of the page.
struct Asset {
    path: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

macro_rules! assets {
    ($($path:literal $file:literal $kind:literal)*) => {
        &[$(Asset { path: $path, kind: $kind, content: include_bytes!(concat!("page/", $file)) }),*]
    };
}

const ASSETS: &[Asset] = assets! {
    "/" "index.html" "text/html; charset=utf-8"
    "/page/style.css" "style.css" "text/css; charset=utf-8"
    "/page/icon.svg" "icon.svg" "image/svg+xml"
    "/page/app.js" "app.js" "text/javascript; charset=utf-8"
    "/page/server.js" "server.js" "text/javascript; charset=utf-8"
    "/page/dom.js" "dom.js" "text/javascript; charset=utf-8"
    "/page/now.js" "now.js" "text/javascript; charset=utf-8"
    "/page/charts.js" "charts.js" "text/javascript; charset=utf-8"
    "/page/refusals.js" "refusals.js" "text/javascript; charset=utf-8"
    "/page/explanation.js" "explanation.js" "text/javascript; charset=utf-8"
    "/page/policy.js" "policy.js" "text/javascript; charset=utf-8"
    "/page/playground.js" "playground.js" "text/javascript; charset=utf-8"
    "/page/trust.js" "trust.js" "text/javascript; charset=utf-8"
    "/page/connections.js" "connections.js" "text/javascript; charset=utf-8"
    "/page/uplot.js" "uplot/uPlot.iife.min.js" "text/javascript; charset=utf-8"
    "/page/uplot.css" "uplot/uPlot.min.css" "text/css; charset=utf-8"
};

/// The content security policy: only files of this page, and no frame around it.
const CONTENT_SECURITY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

/// The entity tag of the whole page, so that no browser mixes the files of two versions.
static ETAG: LazyLock<String> = LazyLock::new(|| {
    let digest = sha256_of_parts(ASSETS.iter().map(|asset| asset.content));
    let digits: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
});

/// Returns the file of that path, or the answer that the browser has it already.
pub(super) fn file(path: &str, asked: &HeaderMap) -> Option<Answer> {
    let asset = ASSETS.iter().find(|asset| asset.path == path)?;
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == ETAG.as_bytes());
    let mut answer = match known {
        true => typed(StatusCode::NOT_MODIFIED, asset.kind, Bytes::new()),
        false => typed(StatusCode::OK, asset.kind, Bytes::from_static(asset.content)),
    };
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.extend(HeaderValue::from_str(&ETAG).ok().map(|etag| (header::ETAG, etag)));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_page_is_small() {
        let size: usize = ASSETS.iter().map(|asset| asset.content.len()).sum();
        assert!(size <= 150 * 1024, "{size} bytes");
    }

    #[test]
    fn the_page_has_no_inline_script_and_loads_nothing_from_elsewhere() {
        for asset in ASSETS.iter().filter(|asset| !asset.path.contains("uplot")) {
            let text = std::str::from_utf8(asset.content).unwrap();
            let xml = text.replace("http://www.w3.org/2000/svg", "");
            for foreign in
                ["http://", "https://", "innerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!xml.contains(foreign), "{foreign} in {}", asset.path);
            }
        }
        let page = std::str::from_utf8(ASSETS[0].content).unwrap();
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onclick="));
        assert_eq!(
            page.matches("<script").count(),
            page.matches("<script src=").count() + page.matches("<script type=\"module\" src=").count()
        );
    }
}
