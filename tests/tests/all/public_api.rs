//! The list of what the crate `agenthost` promises, in `host/agenthost/public-api.txt`, is that of its source.

mod listing;
mod source;

use agenthost_tests::guests::workspace;

use self::listing::listing;

#[test]
fn the_public_api_is_the_one_that_is_committed() {
    let host = workspace().join("host");
    let (listing, file) = (listing(&host), host.join("agenthost/public-api.txt"));
    if std::env::var_os("AGENTHOST_BLESS").is_some() {
        std::fs::write(&file, &listing).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let (added, removed) = (missing(&listing, &committed), missing(&committed, &listing));
    assert!(
        listing == committed,
        "added:\n{added}\nremoved:\n{removed}\nAGENTHOST_BLESS=1 cargo test -p agenthost-tests --test all public_api \
         writes the list anew"
    );
}

/// The lines of `text` that `other` has not.
fn missing(text: &str, other: &str) -> String {
    let known: std::collections::BTreeSet<_> = other.lines().collect();
    let missing: Vec<_> = text.lines().filter(|line| !known.contains(line)).collect();
    missing.join("\n")
}
