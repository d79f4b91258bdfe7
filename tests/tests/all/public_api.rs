//! The lists of what the crate `agenthost` promises, and each crate that it re-exports as a whole, are those of the sources.
//! They are in the file `public-api.txt` of each crate.

mod listing;
mod source;

use agenthost_tests::guests::workspace;

use self::listing::listing;

#[test]
fn the_public_api_is_the_one_that_is_committed() {
    let host = workspace().join("host");
    let mut crates = vec!["agenthost".to_owned()];
    let mut changes = String::new();
    let mut n = 0;
    while let Some(name) = crates.get(n).cloned() {
        n += 1;
        let listing = listing(&host, &name);
        for whole in listing.whole {
            if !crates.contains(&whole) {
                crates.push(whole);
            }
        }
        let file = host.join(&name).join("public-api.txt");
        if std::env::var_os("AGENTHOST_BLESS").is_some() {
            std::fs::write(&file, &listing.text).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        if listing.text != committed {
            let (added, removed) = (missing(&listing.text, &committed), missing(&committed, &listing.text));
            changes += &format!("{name}: added:\n{added}\nremoved:\n{removed}\n");
        }
    }
    assert!(
        changes.is_empty(),
        "{changes}`AGENTHOST_BLESS=1 cargo test --workspace --test all public_api` writes the lists anew"
    );
}

/// The lines of `text` that `other` has not.
fn missing(text: &str, other: &str) -> String {
    let known: std::collections::BTreeSet<_> = other.lines().collect();
    let missing: Vec<_> = text.lines().filter(|line| !known.contains(line)).collect();
    missing.join("\n")
}
