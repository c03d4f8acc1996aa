//! Removing large files for someone who may be in a hurry.
//!
//! To give a file's pages and blocks back takes the kernel a third of a second for each gigabyte, and whoever lets go
//! of it last waits for that, in a call that no signal ends. Nor does another thread help: a process ends when the
//! last of its threads does. So the names go at once, and another process, which does nothing else, is the last to
//! let go. Files are not emptied first, in steps: a reader may have mapped what was a store.

use std::fs::{self, File};
use std::io::{self, PipeReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::cancel::Cancel;

/// Files of at least this many bytes are left to another process.
const LARGE: u64 = 32 << 20;

/// How often `cancel` is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Removes a directory and the files in it: first every name, at once; then it waits until the space is free, too,
/// but no longer than until it is cancelled. The space becomes free in any case, even when this process has ended.
///
/// # Errors
/// What the system says when a name cannot be removed.
pub fn remove(directory: &Path, cancel: &Cancel) -> io::Result<()> {
    let Ok((until, go)) = io::pipe() else { return fs::remove_dir_all(directory) };
    let mut holders = Vec::new();
    for entry in fs::read_dir(directory)?.flatten() {
        let large = entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() >= LARGE);
        // Where no process can be started, this one is the last to let go, and takes its time.
        if large && let Ok(holder) = hold(&entry.path(), &until) {
            holders.push(holder);
        }
    }
    let outcome = fs::remove_dir_all(directory);
    drop(go);
    if !holders.is_empty() {
        wait(holders, cancel);
    }
    outcome
}

/// Starts a process that has a file open until the pipe is closed at its other end.
fn hold(path: &Path, until: &PipeReader) -> io::Result<Child> {
    // It copies what comes through the pipe, which is nothing, into the file, which is open for reading only.
    Command::new("cat")
        .stdin(Stdio::from(until.try_clone()?))
        .stdout(Stdio::from(File::open(path)?))
        .stderr(Stdio::null())
        // Neither a second Ctrl-C nor a disk that is to be unmounted is its business.
        .process_group(0)
        .current_dir("/")
        .spawn()
}

/// Waits for the end of processes, which is somebody's duty even when the caller has been cancelled.
fn wait(holders: Vec<Child>, cancel: &Cancel) {
    let (sender, ended) = mpsc::channel::<()>();
    let started = std::thread::Builder::new().name("moola-removal".into()).spawn(move || {
        for mut holder in holders {
            let _ = holder.wait();
        }
        drop(sender);
    });
    while started.is_ok() && cancel.check().is_ok() {
        if ended.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn filled(folder: &Path) -> std::path::PathBuf {
        let directory = folder.join("directory");
        fs::create_dir_all(directory.join("deeper")).unwrap();
        fs::write(directory.join("deeper/small"), "small").unwrap();
        for name in ["one", "two"] {
            fs::write(directory.join(name), vec![1; LARGE as usize]).unwrap();
        }
        directory
    }

    #[test]
    fn who_waits_finds_the_space_free() {
        let folder = tempfile::tempdir().unwrap();
        let directory = filled(folder.path());
        remove(&directory, &Cancel::new()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(!is_open(&directory));
    }

    #[test]
    fn who_does_not_finds_no_name_and_the_space_free_soon() {
        let folder = tempfile::tempdir().unwrap();
        let directory = filled(folder.path());
        remove(&directory, &Cancel::raised()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let patience = Instant::now();
        while is_open(&directory) {
            assert!(patience.elapsed() < Duration::from_secs(20), "some process never lets go");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether any process has a file that was in this directory open.
    fn is_open(directory: &Path) -> bool {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let open = processes.filter_map(|process| fs::read_dir(process.path().join("fd")).ok()).flatten();
        open.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.starts_with(directory)))
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(remove(&folder.path().join("none"), &Cancel::new()).is_err());
    }
}
