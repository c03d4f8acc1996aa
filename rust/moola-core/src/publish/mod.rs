//! Publishing a store: a reader sees a whole store or none, even if its builder is killed.
//!
//! A store is built in a temporary directory beside its place, `.NAME.XXXXXXXX.moola-tmp`, brought to disk, and moved
//! to its name in one step. A new store takes a rename that replaces nothing; a store that replaces another takes an
//! exchange of the two. `flock` locks the directories themselves. Such a lock ends with its process, and no lock file
//! is ever left:
//!
//! - A builder holds the lock of its temporary directory. A temporary directory that can be locked was left by a killed
//!   builder and may be removed.
//! - A process that replaces a store holds the lock of that store's directory, so that only one process replaces it.
//!
//! Another process can remove a new directory before its maker has locked it. So a lock counts only after a check that
//! the name still means the locked directory. Every removal makes the same check.

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
    /// Where the store goes.
    store: PathBuf,
    name: OsString,
    parent: OwnedFd,
    temporary: Locked,
    path: PathBuf,
    /// The store that stands there, if it is to be replaced.
    replaced: Option<Locked>,
    parents: Parents,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Building,
    /// The store stands under its name.
    Published,
    Discarded,
}

impl Staging {
    /// Removes what killed builders of this name have left, checks that a store can be published at `store`, and makes
    /// the temporary directory and missing parents. It waits until the space of what it removed is free, or until it is
    /// cancelled.
    ///
    /// # Errors
    /// [`Error::Publish`] when something stands there already, unless `overwrite` is set and it is a store; when
    /// another builder is replacing it; when the file system cannot rename without replacing, or exchange.
    /// [`Error::Config`] when the name cannot be a store's. [`Error::Io`] when the system refuses. [`Error::Cancelled`].
    pub fn begin(store: &Path, overwrite: bool, cancel: &Cancel) -> Result<Staging, Error> {
        let unusable = |problem: &str| Error::Config { name: "output", problem: problem.into() };
        let store = std::path::absolute(store)
            .map_err(|_| unusable("an empty path; name the new store's directory"))?;
        let (Some(folder), Some(name)) = (store.parent(), store.file_name()) else {
            return Err(unusable(&format!("{} cannot be a store; name a new directory", store.display())));
        };
        // 1 for each of the two dots.
        let longest = NAME_MAX - 2 - RANDOM - SUFFIX.len();
        if name.len() > longest {
            return Err(unusable(&format!("the name is {} bytes long; {longest} are the most", name.len())));
        }
        if name.as_bytes().ends_with(SUFFIX.as_bytes()) {
            return Err(unusable(&format!(
                "names that end in {SUFFIX} are those of unfinished stores; choose another"
            )));
        }
        let store = folder.join(name);
        let mut attempts = 0;
        loop {
            let outcome = Parents::make(folder)
                .and_then(|parents| Staging::begin_in(folder, name, &store, overwrite, parents, cancel));
            attempts += 1;
            // Another builder that failed may have removed an empty parent. Make it again.
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
        // Its parent may be a symbolic link.
        let parent =
            rustix::fs::open(folder, OPEN.difference(OFlags::NOFOLLOW), Mode::empty()).map_err(failed)?;
        clear_leftovers(&parent, name, cancel);
        cancel.check()?;

        let replaced = match look(&parent, name).map_err(|errno| Error::io(store)(errno.into()))? {
            Found::Nothing => None,
            Found::Other(what) => {
                let advice = "Choose another name, or move it away; only a moola store is ever replaced";
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
                // Its files must be ours to remove, or the old store would stay behind.
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

    /// The temporary directory, in which everything is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the store will stand.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// True once the store stands under its name.
    pub fn is_published(&self) -> bool {
        self.stage == Stage::Published
    }

    /// [Brings everything to disk](Staging::sync) and [gives it its name](Staging::commit).
    pub fn publish(&mut self, cancel: &Cancel) -> Result<(), Error> {
        self.sync(cancel)?;
        self.commit()
    }

    /// Brings everything to disk. That can take long, and can be cancelled.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Cancelled`].
    pub fn sync(&self, cancel: &Cancel) -> Result<(), Error> {
        sync_directory(&self.path, cancel)
    }

    /// Gives the store its name, once [`sync`](Staging::sync) has brought it to disk, and clears up. This is too short
    /// to be cancelled: a store that was replaced loses its name, and its space is free soon after. After an error
    /// before the store has its name, this value still holds the temporary directory; drop it.
    ///
    /// # Errors
    /// [`Error::Publish`] when another builder came first; [`Error::Io`].
    ///
    /// # Panics
    /// When called a second time.
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
            advice: "Nothing of it was touched; look at it, then choose another name or build again",
        };
        let (temporary, name) = (self.temporary.name.as_os_str(), self.name.as_os_str());
        if let Some(old) = &self.replaced {
            match rename(temporary, name, RenameFlags::EXCHANGE) {
                Ok(()) if matches!(old.is_called(&self.parent, temporary), Ok(true)) => return Ok(()),
                Ok(()) => {
                    // Another process had put something in the old store's place. Give it its name back.
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

    /// Another process's directory has the temporary name, and renaming it back failed. Gives it a name that no build
    /// removes.
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
            advice: "Move it to where it belongs; what now has the name is the new store",
        }
    }

    /// Removes the temporary directory and the parents that were made for it, unless the store is published. It removes
    /// all names first, then waits until the space is free or it is cancelled.
    pub fn discard(&mut self, cancel: &Cancel) {
        // A forked child has a copy of this value, but does not own the directory.
        if self.stage == Stage::Building && self.temporary.is_ours() {
            self.stage = Stage::Discarded;
            // The next build removes what cannot be removed now.
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

    /// The second exchange fails, and so may the rename that would set the foreign directory aside.
    #[test]
    fn what_cannot_be_given_back_is_kept() {
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
                // Neither a later build nor its clearing up takes it away.
                build(true, "later").publish(&Cancel::new()).unwrap();
                assert_eq!(fs::read_to_string(marks["foreign"].join("features.npy")).unwrap(), "foreign");
            }
        }
    }
}
