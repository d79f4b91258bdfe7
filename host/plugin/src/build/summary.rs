//! The reports of tools in one line.

/// Returns a report in one line: its first error with its place and its causes, or its first line if it has no error.
pub(super) fn summary(output: &str) -> String {
    let mut lines = output.lines().map(str::trim_end).skip_while(|line| line.is_empty());
    let first = lines.clone().next().unwrap_or("no output");
    let is_error = |line: &&str| line.starts_with("error: ") || line.starts_with("error[");
    let Some(line) = lines.find(is_error) else {
        return first.to_owned();
    };
    let mut text = line.split_once(": ").map_or(line, |(_, text)| text).to_owned();
    let mut is_cause = false;
    for line in lines {
        if is_error(&line) {
            break;
        }
        if let Some(place) = line.trim_start().strip_prefix("--> ") {
            return format!("{text} ({place})");
        }
        // Only the first line of a cause: a build script's has its whole output.
        if is_cause && !line.is_empty() {
            text.push_str(": ");
            text.push_str(line.trim());
        }
        is_cause = line == "Caused by:";
    }
    // The last line that a build script wrote is its own reason.
    match output.split_once("--- stderr\n") {
        Some((_, script)) => {
            let written = script
                .lines()
                .take_while(|line| line.is_empty() || line.starts_with("  "));
            let reasons = written
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with("note:"));
            reasons.last().map_or(text, str::to_owned)
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_summary_in_one_line() {
        for (output, expected) in [
            (
                "error: failed to get `x` as a dependency of package `y v0.1.0`\n\nCaused by:\n  failed to load source for dependency \
                 `x`\n\nCaused by:\n  No such file or directory (os error 2)\n",
                "failed to get `x` as a dependency of package `y v0.1.0`: failed to load source for dependency `x`: No such file or \
                 directory (os error 2)",
            ),
            (
                "error: unclosed table, expected `]`\n --> Cargo.toml:1:9\n  |\n1 | [package\n",
                "unclosed table, expected `]` (Cargo.toml:1:9)",
            ),
            (
                "warning: unused key\nerror: no matching package named `x` found\nlocation searched: here\n",
                "no matching package named `x` found",
            ),
            (
                "error: failed to run custom build command for `mio v1`\n\nCaused by:\n  process didn't exit successfully: `b` \
                 (exit status: 1)\n  --- stderr\n  thread 'main' panicked at build.rs:1:1:\n  no clang\n  note: run with `RUST_BACKTRACE=1`\n\nwarning: build failed\n",
                "no clang",
            ),
            ("error: one\nerror: two\n\nCaused by:\n  three\n", "one"),
            ("\nkilled\nby a signal", "killed"),
            ("", "no output"),
        ] {
            assert_eq!(summary(output), expected, "{output}");
        }
    }
}
