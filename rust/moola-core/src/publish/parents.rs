//! The directories above a store.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Parent directories made for a store. If no store is published, those that are still empty are removed
/// again.
#[derive(Debug)]
pub(super) struct Parents {
    /// Outermost first.
    made: Vec<Made>,
}

/// A directory that was made, with its device and inode.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    identity: (u64, u64),
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

impl Parents {
    /// Makes `folder` and its missing parents.
    pub(super) fn make(folder: &Path) -> Result<Parents, Error> {
        let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
        let mut parents = Parents { made: Vec::new() };
        for path in missing.into_iter().rev() {
            match fs::create_dir(path) {
                Ok(()) => {
                    let identity = identity(path).map_err(Error::io(path))?;
                    parents.made.push(Made { path: path.into(), identity });
                }
                // Another builder made it first.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(path)(error)),
            }
        }
        Ok(parents)
    }

    /// Keeps the directories, and flushes their names to disk.
    pub(super) fn keep(&mut self) -> Result<(), Error> {
        for Made { path, .. } in std::mem::take(&mut self.made) {
            let above = path.parent().expect("a directory that was made has one");
            File::open(above).and_then(|directory| directory.sync_all()).map_err(Error::io(above))?;
        }
        Ok(())
    }

    /// Removes the directories that are still empty and are still the ones that were made.
    pub(super) fn remove(&mut self) {
        for made in std::mem::take(&mut self.made).iter().rev() {
            if identity(&made.path).is_ok_and(|now| now == made.identity) {
                let _ = fs::remove_dir(&made.path);
            }
        }
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        self.remove();
    }
}
