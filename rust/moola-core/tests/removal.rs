//! Removing large files: names are removed at once and the space is free soon, without another process.
//! Foreign files are kept.
#![cfg(target_os = "linux")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use moola_core::cancel::Cancel;
use moola_core::removal;

/// Two files that are large, and a small one deeper down.
fn filled(folder: &Path) -> PathBuf {
    let directory = folder.join("directory");
    fs::create_dir_all(directory.join("deeper")).unwrap();
    fs::write(directory.join("deeper/small"), "small").unwrap();
    for name in ["one", "two"] {
        fs::write(directory.join(name), vec![1; 32 << 20]).unwrap();
    }
    directory
}

fn remove(directory: &Path, cancel: &Cancel) -> io::Result<()> {
    let parent = File::open(directory.parent().unwrap()).unwrap();
    removal::remove(parent, directory.file_name().unwrap(), File::open(directory)?, cancel)
}

/// The processes that have a file open that was in this directory.
fn holders(directory: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let holds = |process: &fs::DirEntry| {
        let open = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        open.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.starts_with(directory)))
    };
    processes.filter(holds).map(|process| process.file_name().into_string().unwrap()).collect()
}

/// Whether this process has ever waited for a child.
fn has_had_children() -> bool {
    // SAFETY: all zeros is a value of this plain struct, and the call writes no more than the struct.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &mut used), 0);
        used
    };
    used.ru_maxrss > 0
}

#[test]
fn a_removal_waits_for_the_space_and_starts_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let directory = filled(folder.path());
    remove(&directory, &Cancel::new()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(holders(&directory), [""; 0]);
    assert!(!has_had_children());
}

#[test]
fn a_cancelled_removal_removes_the_name_at_once_and_frees_the_space_soon() {
    let folder = tempfile::tempdir().unwrap();
    let directory = filled(folder.path());
    remove(&directory, &Cancel::raised()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let patience = Instant::now();
    while !holders(&directory).is_empty() {
        assert!(patience.elapsed() < Duration::from_secs(20), "the thread never closes the files");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn another_directory_of_the_name_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("directory");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("ours"), "").unwrap();
    let ours = File::open(&directory).unwrap();
    fs::rename(&directory, folder.path().join("away")).unwrap();
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("theirs"), "").unwrap();
    let parent = File::open(folder.path()).unwrap();
    let outcome = removal::remove(&parent, OsStr::new("directory"), &ours, &Cancel::new());
    assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(directory.join("theirs").exists() && folder.path().join("away/ours").exists());
}

#[test]
fn links_are_removed_and_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, outside) = (folder.path().join("directory"), folder.path().join("outside"));
    fs::create_dir(&directory).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "").unwrap();
    std::os::unix::fs::symlink(&outside, directory.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.join("dangling")).unwrap();
    remove(&directory, &Cancel::new()).unwrap();
    assert!(outside.join("kept").exists() && !directory.exists());
}

#[test]
fn a_missing_directory_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let ours = File::open(folder.path()).unwrap();
    let outcome = removal::remove(&ours, OsStr::new("none"), &ours, &Cancel::new());
    assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::NotFound);
}
