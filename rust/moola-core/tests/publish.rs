//! Publishing a store: a reader sees a whole store or none, and nothing foreign is removed.

use std::fs;
use std::io;
use std::path::Path;

use moola_core::cancel::Cancel;
use moola_core::error::{Error, Refusal};
use moola_core::publish::Staging;

fn refusal(outcome: Result<impl std::fmt::Debug, Error>) -> (Refusal, String) {
    match outcome {
        Err(Error::Publish { refusal, problem, .. }) => (refusal, problem),
        other => panic!("not refused: {other:?}"),
    }
}

/// Builds a store with `mark` in it.
fn build(path: &Path, overwrite: bool, mark: &str) -> Result<(), Error> {
    let mut staging = Staging::begin(path, overwrite, &Cancel::new())?;
    write(staging.path(), mark);
    staging.publish(&Cancel::new())
}

fn write(folder: &Path, mark: &str) {
    fs::write(folder.join("metadata.json"), r#"{"format_version": 1, "store_id": "", "moola_version": ""}"#)
        .unwrap();
    fs::write(folder.join("features.npy"), mark).unwrap();
}

fn mark(path: &Path) -> String {
    fs::read_to_string(path.join("features.npy")).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_store_appears_whole_and_without_leftovers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut staging = Staging::begin(&path, false, &Cancel::new()).unwrap();
    assert_eq!(staging.path().parent(), path.parent());
    write(staging.path(), "one");
    assert!(!path.exists());
    staging.publish(&Cancel::new()).unwrap();
    assert!(staging.is_published());
    drop(staging);
    assert_eq!(names(folder.path()), ["store"]);
    assert_eq!(mark(&path), "one");
    assert_eq!(names(&path), ["features.npy", "metadata.json"]);
}

#[test]
fn only_a_store_is_replaced_and_only_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    build(&path, false, "one").unwrap();
    let (kind, problem) = refusal(build(&path, false, "two"));
    assert_eq!((kind, problem.as_str()), (Refusal::Exists, "there is a feature store already"));
    assert_eq!(mark(&path), "one");
    build(&path, true, "two").unwrap();
    assert_eq!(mark(&path), "two");
    assert_eq!(names(folder.path()), ["store"]);

    type Make = fn(&Path);
    let foreign: [(&str, Make); 6] = [
        ("a file", |p| fs::write(p, "").unwrap()),
        ("an empty directory", |p| fs::create_dir(p).unwrap()),
        ("a symbolic link", |p| std::os::unix::fs::symlink("store", p).unwrap()),
        ("not a moola store", |p| {
            fs::create_dir(p).unwrap();
            fs::write(p.join("metadata.json"), "{\"name\": 1}").unwrap();
        }),
        ("\"notes.txt\" in it", |p| {
            fs::create_dir(p).unwrap();
            write(p, "");
            fs::write(p.join("notes.txt"), "").unwrap();
        }),
        ("\"features_d.npy\" in it", |p| {
            fs::create_dir(p).unwrap();
            write(p, "");
            fs::write(p.join("features_d.npy"), "").unwrap();
        }),
    ];
    for (what, make) in foreign {
        let path = folder.path().join("foreign");
        make(&path);
        for overwrite in [false, true] {
            let (kind, problem) = refusal(build(&path, overwrite, "two"));
            assert_eq!(kind, Refusal::Exists);
            assert!(problem.contains(what), "{what}: {problem}");
        }
        assert_eq!(names(folder.path()), ["foreign", "store"]);
        if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
            .unwrap();
    }
}

/// A store may contain files that operating systems leave in directories. It may contain nothing else
/// foreign, and no directory of such a name.
#[test]
fn a_store_with_files_of_operating_systems_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    build(&path, false, "one").unwrap();
    for name in [".DS_Store", ".directory", "Thumbs.db", "desktop.ini", "._metadata.json", ".nfs0001"] {
        fs::write(path.join(name), "\0").unwrap();
        build(&path, true, name).unwrap();
        assert_eq!(mark(&path), name);
        assert_eq!(names(&path), ["features.npy", "metadata.json"]);
    }
    assert_eq!(names(folder.path()), ["store"]);

    for name in ["DS_Store", ".hidden", "thumbs.db.txt", "_.x"] {
        fs::write(path.join(".DS_Store"), "").unwrap();
        fs::write(path.join(name), "").unwrap();
        let (kind, problem) = refusal(build(&path, true, "two"));
        assert_eq!(kind, Refusal::Exists);
        assert!(problem.contains(&format!("{name:?} in it")), "{problem}");
        fs::remove_file(path.join(name)).unwrap();
    }
    fs::remove_file(path.join(".DS_Store")).unwrap();
    fs::create_dir(path.join(".DS_Store")).unwrap();
    let (_, problem) = refusal(build(&path, true, "two"));
    assert!(problem.contains("\".DS_Store\" in it"), "{problem}");
}

#[test]
fn the_first_of_two_builders_to_publish_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    for overwrite in [false, true] {
        let mut slow = Staging::begin(&path, overwrite, &Cancel::new()).unwrap();
        write(slow.path(), "slow");
        build(&path, false, "quick").unwrap();
        assert_eq!(refusal(slow.publish(&Cancel::new())).0, Refusal::Conflict);
        drop(slow);
        assert_eq!(mark(&path), "quick");
        assert_eq!(names(folder.path()), ["store"]);
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn only_one_builder_replaces_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    build(&path, false, "old").unwrap();
    let mut first = Staging::begin(&path, true, &Cancel::new()).unwrap();
    write(first.path(), "first");
    assert_eq!(refusal(Staging::begin(&path, true, &Cancel::new())).0, Refusal::Conflict);
    first.publish(&Cancel::new()).unwrap();
    assert_eq!(mark(&path), "first");
    // The lock ends with the build, not with the value.
    build(&path, true, "second").unwrap();
    drop(first);
    assert_eq!(names(folder.path()), ["store"]);
}

#[test]
fn a_directory_that_took_the_old_stores_place_is_moved_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    build(&path, false, "old").unwrap();
    let mut staging = Staging::begin(&path, true, &Cancel::new()).unwrap();
    write(staging.path(), "new");
    fs::rename(&path, folder.path().join("away")).unwrap();
    build(&path, false, "foreign").unwrap();
    assert_eq!(refusal(staging.publish(&Cancel::new())).0, Refusal::Conflict);
    drop(staging);
    assert_eq!((mark(&path).as_str(), mark(&folder.path().join("away")).as_str()), ("foreign", "old"));
    assert_eq!(names(folder.path()), ["away", "store"]);

    // If nothing took the old store's place, the new store takes it.
    let mut staging = Staging::begin(&path, true, &Cancel::new()).unwrap();
    write(staging.path(), "new");
    fs::remove_dir_all(&path).unwrap();
    staging.publish(&Cancel::new()).unwrap();
    assert_eq!(mark(&path), "new");
}

#[test]
fn leftovers_are_cleared_and_live_builders_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let live = Staging::begin(&path, false, &Cancel::new()).unwrap();
    let leftover = folder.path().join(".store.0123abcd.moola-tmp");
    let others =
        [".stores.0123abcd.moola-tmp", ".store.0123abc.moola-tmp", ".store.0123abcd.moola-tmp2", "store.old"];
    for name in others {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::create_dir_all(leftover.join("deep")).unwrap();
    fs::write(leftover.join("deep/file"), "").unwrap();
    let outside = folder.path().join("outside");
    fs::write(&outside, "mine").unwrap();
    std::os::unix::fs::symlink(&outside, leftover.join("link")).unwrap();
    // A file of such a name does not belong to us.
    fs::write(folder.path().join(".store.file0000.moola-tmp"), "").unwrap();

    build(&path, false, "one").unwrap();
    assert!(!leftover.exists());
    assert!(live.path().exists());
    assert_eq!(fs::read_to_string(outside).unwrap(), "mine");
    assert!(others.iter().all(|name| folder.path().join(name).exists()));
    let path = live.path().to_owned();
    drop(live);
    assert!(!path.exists());
    assert!(folder.path().join(".store.file0000.moola-tmp").exists());
}

#[test]
fn parents_are_made_and_removed_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/store");
    drop(Staging::begin(&path, false, &Cancel::new()).unwrap());
    assert_eq!(names(folder.path()), [""; 0]);
    let kept = Staging::begin(&path, false, &Cancel::new()).unwrap();
    fs::write(folder.path().join("a/mine"), "").unwrap();
    drop(kept);
    assert_eq!(names(&folder.path().join("a")), ["mine"]);
    build(&path, false, "one").unwrap();
    assert_eq!(mark(&path), "one");

    let error = Staging::begin(&folder.path().join("a/mine/store"), false, &Cancel::new()).unwrap_err();
    assert!(matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotADirectory));
    std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).unwrap();
    let error = Staging::begin(&folder.path().join("dangling/store"), false, &Cancel::new()).unwrap_err();
    assert!(matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound));
}

#[test]
fn names_that_cannot_be_stores_are_refused() {
    for path in ["", "/", "..", "a/..", &"n".repeat(236), "x.moola-tmp"] {
        assert!(
            matches!(Staging::begin(Path::new(path), false, &Cancel::new()), Err(Error::Config { .. })),
            "{path:?}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    build(&folder.path().join("n".repeat(235)), false, "").unwrap();
    build(&folder.path().join("slash/"), false, "").unwrap();
    build(&folder.path().join("dot/."), false, "").unwrap();
    build(&folder.path().join("späße \n"), false, "").unwrap();
}

#[test]
fn a_cancelled_build_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut staging = Staging::begin(&path, false, &Cancel::new()).unwrap();
    write(staging.path(), "one");
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(matches!(staging.publish(&cancel), Err(Error::Cancelled)));
    drop(staging);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn a_directory_that_took_the_temporary_name_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let staging = Staging::begin(&path, false, &Cancel::new()).unwrap();
    write(staging.path(), "ours");
    let (temporary, away) = (staging.path().to_owned(), folder.path().join("away"));
    fs::rename(&temporary, &away).unwrap();
    fs::create_dir(&temporary).unwrap();
    write(&temporary, "theirs");
    drop(staging);
    assert_eq!((mark(&temporary).as_str(), mark(&away).as_str()), ("theirs", "ours"));
}

#[test]
fn a_parent_that_another_process_made_again_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let staging = Staging::begin(&folder.path().join("a/store"), false, &Cancel::new()).unwrap();
    fs::rename(folder.path().join("a"), folder.path().join("b")).unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    drop(staging);
    assert_eq!(names(folder.path()), ["a", "b"]);
}
