//! Any bytes as the target of a request: every parser reads an accepted target alike, and no parser reads a target that a
//! setting allows as a path upwards or as another host.

use sidegate::target::{AllowedForms, PathForm, Target, TargetRules};

use super::readings::{READERS, has_dots, unquote};

/// Returns the judged path of an accepted target.
pub fn judged(target: &Target) -> String {
    let segments: Vec<_> = target.segments().map(String::from_utf8_lossy).collect();
    format!("/{}", segments.join("/"))
}

pub fn check(text: &str) {
    let request = format!("GET {text}");
    if let Ok(target) = Target::from_text(&request, TargetRules::STRICT) {
        check_read_alike(&target);
    }
    let forms = PathForm::ALL.iter().map(|(_, form)| AllowedForms::NONE.with(*form));
    for allowed in forms.chain([AllowedForms::ALL]) {
        if let Ok(target) = Target::from_text(&request, TargetRules { allowed, ..TargetRules::STRICT }) {
            check_no_way_up(&target, text);
        }
    }
}

fn check_read_alike(target: &Target) {
    let (forwarded, judged) = (target.path_and_query().as_str(), judged(target));
    assert!(forwarded.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{forwarded:?}");
    for (name, read) in READERS {
        let reading = read(forwarded).unwrap_or_else(|| panic!("{name} refuses {forwarded:?}"));
        assert_eq!(reading.path, judged, "{name} reads {forwarded:?}");
        assert_eq!(reading.query, target.query().unwrap_or_default(), "{name} reads {forwarded:?}");
        assert!(!reading.climbs && !reading.elsewhere, "{name} reads {forwarded:?} as {reading:?}");
    }
    // A replay judges the forwarded target again; the result must be the same.
    let again =
        Target::from_text(&format!("GET {forwarded}"), TargetRules::STRICT).map(|again| self::judged(&again));
    assert_eq!(again.ok(), Some(judged), "{forwarded:?}");
}

fn check_no_way_up(target: &Target, text: &str) {
    let forwarded = target.path_and_query().as_str();
    for reading in READERS.iter().filter_map(|(_, read)| read(forwarded)) {
        assert!(!reading.climbs && !reading.elsewhere, "{text:?} is read as {reading:?}");
    }
    let once = unquote(target.path());
    let twice = unquote(&String::from_utf8_lossy(&once));
    for decoded in [once, twice] {
        let cut = String::from_utf8_lossy(&decoded)
            .split('/')
            .flat_map(|part| part.split('\\'))
            .map(|segment| segment.split(';').next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
            .join("/");
        assert!(!has_dots(&cut, &['/']), "{text:?} is decoded to {cut:?}");
        assert!(!cut.bytes().any(|byte| byte.is_ascii_control()), "{text:?} is decoded to {cut:?}");
    }
}
