//! Publishing a store: a reader sees a whole store or none, even if its builder is killed.
//!
//! A store is built in a temporary directory next to its final path, `.NAME.XXXXXXXX.moola-tmp`, flushed to
//! disk, and given its name in one step. A new store gets its name by a rename that replaces nothing. A store
//! that replaces another gets it by an exchange of the two directories. The directories themselves are locked
//! with `flock`. A lock ends with its process, so no lock file is left behind:
//!
//! - A builder locks its temporary directory. If a temporary directory can be locked, its builder was killed,
//!   and it may be removed.
//! - A process that replaces a store locks that store's directory, so that only one process replaces it.
//!
//! Another process can remove a new directory before its maker has locked it. So a lock counts only after a
//! check that the name still refers to the locked directory. Every removal makes the same check.

mod locked;
mod occupied;
mod parents;
mod to_disk;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::cancel::Cancel;
use crate::error::{Error, Refusal};
use locked::{Locked, OPEN, RANDOM, SUFFIX, clear_leftovers, random};
use occupied::{Found, look};
use parents::Parents;
use to_disk::sync_directory;

/// The longest file name on Linux.
const NAME_MAX: usize = 255;

/// A store being built. Dropping this value removes it unless it is [published](Staging::publish).
#[derive(Debug)]
pub struct Staging {
    /// The final path of the store.
    store: PathBuf,
    name: OsString,
    parent: OwnedFd,
    temporary: Locked,
    path: PathBuf,
    /// The existing store that is to be replaced, if any.
    replaced: Option<Locked>,
    parents: Parents,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Building,
    /// The store has its name.
    Published,
    Discarded,
}

impl Staging {
    /// Removes the leftovers of killed builders of this name, checks that a store can be published at
    /// `store`, and makes the temporary directory and missing parents. It waits until the space of the
    /// leftovers is free, or until it is cancelled.
    ///
    /// # Errors
    /// [`Error::Publish`] if something exists at `store`, unless `overwrite` is set and it is a store; if
    /// another builder is replacing it; if the file system cannot rename without replacing, or cannot
    /// exchange. [`Error::Config`] if a store cannot have this name. [`Error::Io`] if the system refuses.
    /// [`Error::Cancelled`].
    pub fn begin(store: &Path, overwrite: bool, cancel: &Cancel) -> Result<Staging, Error> {
        let unusable = |problem: &str| Error::Config { name: "output", problem: problem.into() };
        let store = std::path::absolute(store)
            .map_err(|_| unusable("an empty path; name the new store's directory"))?;
        let (Some(folder), Some(name)) = (store.parent(), store.file_name()) else {
            return Err(unusable(&format!("{} cannot be a store; name a new directory", store.display())));
        };
        // 2 for the two dots.
        let longest = NAME_MAX - 2 - RANDOM - SUFFIX.len();
        if name.len() > longest {
            return Err(unusable(&format!(
                "the name is {} bytes long; the maximum is {longest}",
                name.len()
            )));
        }
        if name.as_bytes().ends_with(SUFFIX.as_bytes()) {
            return Err(unusable(&format!(
                "names that end in {SUFFIX} are reserved for unfinished stores; choose another"
            )));
        }
        let store = folder.join(name);
        let mut attempts = 0;
        loop {
            let outcome = Parents::make(folder)
                .and_then(|parents| Staging::begin_in(folder, name, &store, overwrite, parents, cancel));
            attempts += 1;
            // Another builder that failed may have removed an empty parent. Create it again.
            match outcome {
                Err(Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && attempts < 100 => {}
                outcome => return outcome,
            }
        }
    }

    fn begin_in(
        folder: &Path,
        name: &OsStr,
        store: &Path,
        overwrite: bool,
        parents: Parents,
        cancel: &Cancel,
    ) -> Result<Staging, Error> {
        let refuse = |refusal, problem: String, advice| Error::Publish {
            refusal,
            path: store.into(),
            problem,
            advice,
        };
        let failed = |errno: Errno| Error::io(folder)(errno.into());
        // The parent may be a symbolic link.
        let parent =
            rustix::fs::open(folder, OPEN.difference(OFlags::NOFOLLOW), Mode::empty()).map_err(failed)?;
        clear_leftovers(&parent, name, cancel);
        cancel.check()?;

        let replaced = match look(&parent, name).map_err(|errno| Error::io(store)(errno.into()))? {
            Found::Nothing => None,
            Found::Other(what) => {
                let advice = "Choose another name, or move it away; only a moola store can be replaced";
                return Err(refuse(Refusal::Exists, what, advice));
            }
            Found::Store if !overwrite => {
                let advice = "Choose another name, or pass --overwrite (overwrite=True) to replace it";
                return Err(refuse(Refusal::Exists, "there is a feature store already".into(), advice));
            }
            Found::Store => {
                let old = Locked::take(&parent, name).map_err(failed)?.ok_or_else(|| {
                    let problem = "another process is replacing this store".into();
                    refuse(Refusal::Conflict, problem, "Wait until it is done, or choose another name")
                })?;
                // We must be allowed to remove its files, or the old store would stay behind.
                rustix::fs::accessat(&parent, name, Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
                    .map_err(|errno| Error::io(store)(errno.into()))?;
                Some(old)
            }
        };

        let mut temporary = Locked::make(&parent, name).map_err(failed)?;
        if let Err(errno) = temporary.try_renames(&parent, name, replaced.is_some()) {
            temporary.remove(&parent, cancel);
            return Err(match errno {
                Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => {
                    let lacks = if replaced.is_some() {
                        "exchange two directories"
                    } else {
                        "rename without replacing"
                    };
                    let advice = "Build on a local disk (ext4, xfs, btrfs, tmpfs) and copy the store there";
                    refuse(Refusal::Unable, format!("the file system cannot {lacks}"), advice)
                }
                errno => failed(errno),
            });
        }
        Ok(Staging {
            store: store.into(),
            name: name.into(),
            parent,
            path: folder.join(&temporary.name),
            temporary,
            replaced,
            parents,
            stage: Stage::Building,
        })
    }

    /// The temporary directory. Everything is written there.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The final path of the store.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// True once the store has its name.
    pub fn is_published(&self) -> bool {
        self.stage == Stage::Published
    }

    /// [Flushes everything to disk](Staging::sync) and [gives the store its name](Staging::commit).
    pub fn publish(&mut self, cancel: &Cancel) -> Result<(), Error> {
        self.sync(cancel)?;
        self.commit()
    }

    /// Flushes everything to disk. This can take long, and can be cancelled.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Cancelled`].
    pub fn sync(&self, cancel: &Cancel) -> Result<(), Error> {
        sync_directory(&self.path, cancel)
    }

    /// Gives the store its name and cleans up. Call [`sync`](Staging::sync) first. This takes too little time
    /// to be cancellable: a replaced store loses its name at once, and its space is free soon after. After an
    /// error before the store has its name, this value still holds the temporary directory; drop it.
    ///
    /// # Errors
    /// [`Error::Publish`] if another builder published first; [`Error::Io`].
    ///
    /// # Panics
    /// If called a second time.
    pub fn commit(&mut self) -> Result<(), Error> {
        assert_eq!(self.stage, Stage::Building, "a store is published once");
        self.take_place()?;
        self.stage = Stage::Published;
        let folder = self.store.parent().expect("checked by begin");
        rustix::fs::fsync(&self.parent).map_err(|errno| Error::io(folder)(errno.into()))?;
        self.parents.keep()?;
        if let Some(mut old) = self.replaced.take() {
            // The exchange gave the old store the new one's temporary name.
            old.name.clone_from(&self.temporary.name);
            old.remove(&self.parent, &Cancel::raised());
        }
        self.temporary.unlock();
        clear_leftovers(&self.parent, &self.name, &Cancel::raised());
        Ok(())
    }

    fn take_place(&self) -> Result<(), Error> {
        self.take_place_by(|from, to, flags| {
            rustix::fs::renameat_with(&self.parent, from, &self.parent, to, flags)
        })
    }

    /// The system call is an argument, so that a test can make it fail.
    fn take_place_by(
        &self,
        mut rename: impl FnMut(&OsStr, &OsStr, RenameFlags) -> Result<(), Errno>,
    ) -> Result<(), Error> {
        let failed = |errno: Errno| Error::io(&self.store)(errno.into());
        let conflict = || Error::Publish {
            refusal: Refusal::Conflict,
            path: self.store.clone(),
            problem: "another process has put something there since this build started".into(),
            advice: "It was left untouched; look at it, then choose another name or build again",
        };
        let (temporary, name) = (self.temporary.name.as_os_str(), self.name.as_os_str());
        if let Some(old) = &self.replaced {
            match rename(temporary, name, RenameFlags::EXCHANGE) {
                Ok(()) if matches!(old.is_called(&self.parent, temporary), Ok(true)) => return Ok(()),
                Ok(()) => {
                    // Another process had put something in the old store's place. Move it back.
                    return Err(match rename(temporary, name, RenameFlags::EXCHANGE) {
                        Ok(()) => conflict(),
                        Err(errno) => self.displaced(rename, errno),
                    });
                }
                // Another process has moved or removed the old store.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        match rename(temporary, name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => Err(conflict()),
            outcome => outcome.map_err(failed),
        }
    }

    /// Handles a failed move back: another process's directory has the temporary name. Gives it a name that
    /// no build removes.
    fn displaced(
        &self,
        mut rename: impl FnMut(&OsStr, &OsStr, RenameFlags) -> Result<(), Errno>,
        errno: Errno,
    ) -> Error {
        let mut aside = self.name.clone();
        aside.push(format!(".displaced-{}", random()));
        let moved = rename(&self.temporary.name, &aside, RenameFlags::NOREPLACE).is_ok();
        let place = self.store.with_file_name(if moved { &aside } else { &self.temporary.name });
        let (place, why) = (place.display(), io::Error::from(errno));
        Error::Publish {
            refusal: Refusal::Conflict,
            path: self.store.clone(),
            problem: format!(
                "another process put something there during this build; it is now at {place}, and could not be \
                 moved back ({why})"
            ),
            advice: "Move it to where it belongs; the new store now has the name",
        }
    }

    /// Removes the temporary directory and the parents that were made for it, unless the store is published.
    /// It first removes all names, then waits until the space is free or it is cancelled.
    pub fn discard(&mut self, cancel: &Cancel) {
        // A forked child has a copy of this value, but does not own the directory.
        if self.stage == Stage::Building && self.temporary.is_ours() {
            self.stage = Stage::Discarded;
            // The next build removes what could not be removed.
            self.temporary.remove(&self.parent, cancel);
            self.replaced = None;
            self.parents.remove();
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.discard(&Cancel::raised());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The second exchange fails. In one case, so does the rename that would set the foreign directory aside.
    #[test]
    fn a_displaced_directory_that_cannot_be_moved_back_is_kept() {
        for aside_fails in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("store");
            let build = |overwrite, mark| {
                let staging = Staging::begin(&path, overwrite, &Cancel::new()).unwrap();
                let metadata = r#"{"format_version": 1, "store_id": "", "moola_version": ""}"#;
                fs::write(staging.path().join("metadata.json"), metadata).unwrap();
                fs::write(staging.path().join("features.npy"), mark).unwrap();
                staging
            };
            build(false, "old").publish(&Cancel::new()).unwrap();
            let ours = build(true, "ours");
            fs::rename(&path, folder.path().join("away")).unwrap();
            build(false, "foreign").publish(&Cancel::new()).unwrap();

            let mut calls = 0;
            let outcome = ours.take_place_by(|from, to, flags| {
                calls += 1;
                if calls == 2 || (calls == 3 && aside_fails) {
                    return Err(Errno::IO);
                }
                rustix::fs::renameat_with(&ours.parent, from, &ours.parent, to, flags)
            });
            let Err(Error::Publish { refusal: Refusal::Conflict, problem, .. }) = outcome else {
                panic!("not refused: {outcome:?}")
            };
            drop(ours);
            let marks = fs::read_dir(folder.path()).unwrap().map(|entry| {
                let entry = entry.unwrap();
                (fs::read_to_string(entry.path().join("features.npy")).unwrap(), entry.path())
            });
            let marks: std::collections::BTreeMap<_, _> = marks.collect();
            assert_eq!(marks.keys().collect::<Vec<_>>(), ["foreign", "old", "ours"]);
            assert_eq!(marks["ours"], path);
            assert!(problem.contains(marks["foreign"].to_str().unwrap()), "{problem}");
            if !aside_fails {
                // A later build and its cleanup leave it in place.
                build(true, "later").publish(&Cancel::new()).unwrap();
                assert_eq!(fs::read_to_string(marks["foreign"].join("features.npy")).unwrap(), "foreign");
            }
        }
    }
}
