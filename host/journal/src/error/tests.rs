use super::*;
use crate::cassette::Cassette;
use crate::sqlite::Sqlite;
use crate::{FormatVersion, Journal as _};

fn refused(path: &std::path::Path) -> JournalError {
    let error = Sqlite::open(path).err().unwrap();
    error.downcast_ref::<JournalError>().cloned().unwrap()
}

#[test]
fn an_unusable_file_is_a_variant_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("empty.db"), "").unwrap();
    assert!(matches!(refused(&at("empty.db")), JournalError::Empty { path } if path == at("empty.db")));
    std::fs::write(at("text.db"), "not a journal ".repeat(500)).unwrap();
    let problem = Some(DatabaseProblem::NotAJournal);
    assert!(matches!(refused(&at("text.db")), JournalError::Database { problem: found, .. } if found == problem));
    assert!(matches!(refused(dir.path()), JournalError::NotAFile { .. }));
    std::os::unix::fs::symlink("elsewhere.db", at("link.db")).unwrap();
    let link = refused(&at("link.db"));
    assert!(matches!(link, JournalError::Link { .. }) && link.class() == ErrorClass::Denied);
    drop(Sqlite::open(&at("newer.db")).unwrap());
    let newer = rusqlite::Connection::open(at("newer.db")).unwrap();
    newer.pragma_update(None, "user_version", 999).unwrap();
    drop(newer);
    assert!(matches!(
        refused(&at("newer.db")),
        JournalError::Format {
            format: FormatError::TooNew { found, .. },
            ..
        } if found == FormatVersion::new(999)
    ));
}

#[test]
fn a_run_that_is_not_found_names_the_id() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Sqlite::open(&dir.path().join("journal.db")).unwrap();
    let find = |id: &str| journal.find(id).unwrap_err().downcast_ref::<JournalError>().cloned();
    assert!(matches!(find("last"), Some(JournalError::NoRuns)));
    assert!(matches!(find("abc"), Some(JournalError::NoSuchRun { id, latest }) if id == "abc" && latest.is_empty()));
}

#[test]
fn a_file_that_is_not_a_cassette_is_a_variant_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    assert!(matches!(Cassette::read(&path), Err(CassetteError::Read { .. })));
    std::fs::write(&path, "{\"format\": 999}").unwrap();
    let error = Cassette::read(&path).unwrap_err();
    assert!(
        matches!(&error, CassetteError::Invalid { path: named, .. } if *named == path),
        "{error:?}"
    );
    assert_eq!(error.class(), ErrorClass::Input);
}
