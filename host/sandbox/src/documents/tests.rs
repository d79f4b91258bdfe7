use std::fs;
use std::path::PathBuf;

use super::super::files::Quota;
use super::*;

/// A directory with a quota for each run, and its path.
fn memory(bytes: u64, files: u64) -> (tempfile::TempDir, PathBuf, Documents) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().canonicalize().unwrap();
    let documents = open(&path, bytes, files);
    (scratch, path, documents)
}

fn open(path: &std::path::Path, bytes: u64, files: u64) -> Documents {
    let quota = Arc::new(Quota::new(Some(bytes), Some(files)));
    Documents::new(OpenDir::open(path, "/memory", Some(quota)).unwrap())
}

fn put(documents: &Documents, name: &str, json: &str) -> DocumentResult {
    documents.apply(&DocumentOperation {
        action: DocumentAction::Put,
        name: name.to_owned(),
        json: Some(json.to_owned()),
    })
}

fn list(documents: &Documents, prefix: &str) -> Vec<String> {
    let result = documents.apply(&DocumentOperation {
        action: DocumentAction::List,
        name: prefix.to_owned(),
        json: None,
    });
    match result {
        DocumentResult::Names { names, .. } => names,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_an_ended_process_left_is_removed_and_what_another_writes_is_not() {
    let (_scratch, path, documents) = memory(100, 10);
    fs::write(path.join(".put-1-0"), "left").unwrap();
    let other = fs::File::create(path.join(".put-2-0")).unwrap();
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    fs::write(path.join(".other"), "not ours").unwrap();
    assert_eq!(list(&documents, ""), Vec::<String>::new());
    assert_eq!(put(&documents, "a", "1"), DocumentResult::Done);
    let mut left: Vec<_> = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, [".other", ".put-2-0", "a.json"]);
}

#[test]
fn a_write_that_fails_leaves_the_old_document_and_nothing_else() {
    let (_scratch, path, documents) = memory(1_000, 3);
    assert_eq!(put(&documents, "a", "1"), DocumentResult::Done);
    let root = documents.root().unwrap();
    let failed = write(&root, b"2", |_| Err(io::Error::other("killed here")));
    assert!(failed.is_err());
    fs::create_dir_all(path.join("b.json/c")).unwrap();
    let DocumentResult::Error { error } = put(&documents, "b", "2") else {
        panic!("a directory was replaced")
    };
    assert!(matches!(error, DocumentError::Io(_)), "{error:?}");
    assert_eq!(fs::read_to_string(path.join("a.json")).unwrap(), "1");
    let mut left: Vec<_> = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["a.json", "b.json"]);
}

#[test]
fn new_documents_and_directories_count_as_files() {
    let (_scratch, _path, documents) = memory(1_000, 3);
    assert_eq!(put(&documents, "a/b", "1"), DocumentResult::Done);
    assert_eq!(put(&documents, "a/b", "2"), DocumentResult::Done);
    assert_eq!(put(&documents, "a/c", "3"), DocumentResult::Done);
    assert!(matches!(
        put(&documents, "d", "4"),
        DocumentResult::Error {
            error: DocumentError::QuotaFull(_)
        }
    ));
    assert_eq!(put(&documents, "a/b", "5"), DocumentResult::Done);
    assert_eq!(list(&documents, "a/"), ["a/b", "a/c"]);
}

#[test]
fn many_threads_write_one_document_and_a_reader_sees_one_of_theirs() {
    let (_scratch, path, documents) = memory(100 << 20, 1_000);
    let texts: Vec<_> = ["a", "b", "c"]
        .map(|letter| format!("\"{}\"", letter.repeat(10_000)))
        .into();
    std::thread::scope(|scope| {
        for text in &texts {
            // Each as a run of its own.
            let documents = open(&path, 100 << 20, 1_000);
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(put(&documents, "shared/document", text), DocumentResult::Done);
                }
            });
        }
        for _ in 0..200 {
            match documents.get("shared/document") {
                Ok(seen) => assert!(seen.is_none_or(|seen| texts.contains(&seen))),
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    assert_eq!(list(&documents, ""), ["shared/document"]);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
}

#[test]
fn a_listing_is_bounded() {
    let (_scratch, path, documents) = memory(1, 1);
    for n in 0..=MAX_ENTRIES {
        fs::write(path.join(format!("{n}.json")), "").unwrap();
    }
    let result = documents.list("1");
    assert!(matches!(result, Err(DocumentError::TooLarge(_))), "{result:?}");
    fs::remove_file(path.join("0.json")).unwrap();
    assert_eq!(list(&documents, "999").len(), 11);
}
