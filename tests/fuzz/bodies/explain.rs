//! Any policy, client and request for `sidegate policy explain`: the output fits the exit code, and contains no control
//! characters for a terminal.

use std::fs;
use std::process::ExitCode;

use clap::Parser;
use sidegate::cli::policy::Command;

#[derive(Parser)]
struct Tool {
    #[command(subcommand)]
    command: Command,
}

/// Takes the client in the form of `--client`, a line with the request, and a policy.
pub fn run(text: &str) {
    let mut lines = text.splitn(3, '\n');
    let (client, request) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let Some((method, target)) = request.split_once(' ') else { return };
    let name = format!("sidegate-explain-{}-{:?}.yaml", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name);
    fs::write(&path, lines.next().unwrap_or_default()).unwrap();
    let client = format!("--client={client}");
    for format in ["human", "json"] {
        let words = ["policy", "explain", "--at", "2026-11-24T00:00:00Z", "--format", format, &client, "--"];
        let words =
            words.map(Into::into).into_iter().chain([path.clone().into(), method.into(), target.into()]);
        let Ok(tool) = Tool::try_parse_from(words.collect::<Vec<std::ffi::OsString>>()) else { continue };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = tool.command.run(&mut out, &mut err);
        let (out, err) = (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap());
        let has_control = |text: &str| text.chars().any(|c| c != '\n' && c.is_control());
        assert!(
            !has_control(&out) && !has_control(&err),
            "control characters in the output: {out:?} {err:?}"
        );
        assert!(fits(code, format, &out, &err), "{code:?}: {out}{err}");
    }
    let _ = fs::remove_file(path);
}

fn fits(code: ExitCode, format: &str, out: &str, err: &str) -> bool {
    let (allowed, denied) = match format {
        "json" => (out.contains("\"decision\": \"allow\""), out.contains("\"decision\": \"deny\"")),
        _ => (out.starts_with("allowed by"), out.starts_with("denied")),
    };
    if code == ExitCode::from(2) {
        return out.is_empty() && err.contains("error[");
    }
    err.is_empty() && if code == ExitCode::from(0) { allowed } else { denied }
}
