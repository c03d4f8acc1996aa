//! Publishing a store: whatever happens to its builder, a reader sees a whole store or none.
//!
//! A store is built in a temporary directory beside its place, `.NAME.XXXXXXXX.moola-tmp`, brought to disk, and moved
//! to its name in one step: by a rename that replaces nothing, or, where an older store is to be replaced, by an
//! exchange of the two. No lock file is ever left, because the directories themselves are locked, with `flock`, which
//! ends with the process:
//!
//! - whoever builds holds the lock of its temporary directory. One that can be locked is what a killed builder left,
//!   and may be removed;
//! - whoever replaces a store holds the lock of that store's directory, so that only one does.
//!
//! A directory can be made, and removed by another process, before its maker has locked it. So a lock counts only
//! once the name is seen to mean, still, the directory that is locked.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::cancel::Cancel;
use crate::error::{Error, Refusal};
use crate::{flush_ahead, removal};

/// How a temporary directory's name ends.
const SUFFIX: &str = ".moola-tmp";
/// Random characters in a temporary directory's name.
const RANDOM: usize = 8;
/// The longest file name that Linux has.
const NAME_MAX: usize = 255;
/// The start of `metadata.json` in which its first keys must be found.
const RECOGNISED: usize = 4096;

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// A store being built. Unless [published](Staging::publish), it is gone with this value.
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
    /// Clears what killed builders of this name have left, makes sure that a store can be published at `store`, and
    /// makes the temporary directory. Missing parents are made too. Whoever cancels does not wait until the space of
    /// what was left is free; otherwise it is there for the new store.
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
            // Another builder that failed may have taken an empty parent away again; then make it once more.
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
        clear_leftovers(&parent, folder, name, cancel);
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
            temporary.remove(folder, cancel);
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

    /// Brings everything to disk, which takes its time and can be cancelled.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Cancelled`].
    pub fn sync(&self, cancel: &Cancel) -> Result<(), Error> {
        sync_directory(&self.path, cancel)
    }

    /// Gives what [`sync`](Staging::sync) has brought to disk its name, and clears up. That takes no time worth
    /// cancelling: the name of a store that was replaced goes, and its space is free soon after. After an error
    /// before it has the name, the value still holds the temporary directory; drop it.
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
        if let Some(old) = self.replaced.take() {
            // The name that was the new store's is now the old one's.
            let old = Locked { name: self.temporary.name.clone(), ..old };
            old.remove(folder, &Cancel::raised());
        }
        self.temporary.unlock();
        clear_leftovers(&self.parent, folder, &self.name, &Cancel::raised());
        Ok(())
    }

    fn take_place(&self) -> Result<(), Error> {
        let failed = |errno: Errno| Error::io(&self.store)(errno.into());
        let conflict = || Error::Publish {
            refusal: Refusal::Conflict,
            path: self.store.clone(),
            problem: "another process has put something there since this build started".into(),
            advice: "Nothing of it was touched; look at it, then choose another name or build again",
        };
        let rename = |flags| {
            rustix::fs::renameat_with(&self.parent, &self.temporary.name, &self.parent, &self.name, flags)
        };
        if let Some(old) = &self.replaced {
            match rename(RenameFlags::EXCHANGE) {
                Ok(()) if old.is_called(&self.parent, &self.temporary.name).map_err(failed)? => return Ok(()),
                Ok(()) => {
                    // The old store had made way for something that was not there when we looked: give it back.
                    rename(RenameFlags::EXCHANGE).map_err(failed)?;
                    return Err(conflict());
                }
                // The old store has been taken away.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        match rename(RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => Err(conflict()),
            outcome => outcome.map_err(failed),
        }
    }

    /// Removes the temporary directory, and parents that were made for it, unless the store is published. The names
    /// go at once; whoever does not cancel waits until the space is free, too.
    pub fn discard(&mut self, cancel: &Cancel) {
        // A fork of the builder has this value too, but not the right to the directory.
        if self.stage == Stage::Building && self.temporary.is_ours() {
            self.stage = Stage::Discarded;
            // What cannot be removed is left to the next build.
            let _ = removal::remove(&self.path, cancel);
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

/// A directory whose lock this process holds.
#[derive(Debug)]
struct Locked {
    name: OsString,
    directory: Lock,
}

/// Unlocks even where a forked child still has the descriptor, and never in the child.
#[derive(Debug)]
struct Lock {
    directory: OwnedFd,
    process: u32,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = rustix::fs::flock(&self.directory, FlockOperation::Unlock);
        }
    }
}

impl Locked {
    /// Makes a new temporary directory and locks it.
    fn make(parent: &OwnedFd, store: &OsStr) -> Result<Locked, Errno> {
        loop {
            let name = temporary_name(store);
            match rustix::fs::mkdirat(parent, &name, Mode::from_raw_mode(0o777)) {
                Err(Errno::EXIST) => continue,
                outcome => outcome?,
            }
            match Locked::take(parent, &name) {
                Ok(Some(locked)) => return Ok(locked),
                // Taken for a leftover before it was locked, and removed.
                Ok(None) => continue,
                Err(errno) => {
                    let _ = rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR);
                    return Err(errno);
                }
            }
        }
    }

    /// Locks the directory of this name; none if another process has locked it or there is none (any more).
    fn take(parent: &OwnedFd, name: &OsStr) -> Result<Option<Locked>, Errno> {
        let directory = match rustix::fs::openat(parent, name, OPEN, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            outcome => outcome?,
        };
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            outcome => outcome?,
        }
        let locked = Locked { name: name.into(), directory: Lock { directory, process: std::process::id() } };
        Ok(locked.is_called(parent, name)?.then_some(locked))
    }

    /// Whether `name` means this very directory.
    fn is_called(&self, parent: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
        let ours = rustix::fs::fstat(&self.directory.directory)?;
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn is_ours(&self) -> bool {
        self.directory.process == std::process::id()
    }

    fn unlock(&self) {
        let _ = rustix::fs::flock(&self.directory.directory, FlockOperation::Unlock);
    }

    /// Removes the directory and what is in it. What cannot be removed is left to the next build.
    fn remove(&self, folder: &Path, cancel: &Cancel) {
        let _ = removal::remove(&folder.join(&self.name), cancel);
    }

    /// Tries, on this empty directory, the renames that publishing will need: they are refused before the work, not
    /// after it. The system looks at the names first, so only a rename that can succeed tells.
    fn try_renames(&mut self, parent: &OwnedFd, store: &OsStr, exchange: bool) -> Result<(), Errno> {
        let name = loop {
            let name = temporary_name(store);
            match rustix::fs::renameat_with(parent, &self.name, parent, &name, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => continue,
                outcome => break outcome.map(|()| name)?,
            }
        };
        self.name = name;
        if exchange {
            let mut other = Locked::make(parent, store)?;
            let outcome =
                rustix::fs::renameat_with(parent, &self.name, parent, &other.name, RenameFlags::EXCHANGE);
            if outcome.is_ok() {
                std::mem::swap(&mut self.name, &mut other.name);
            }
            let removed = rustix::fs::unlinkat(parent, &other.name, AtFlags::REMOVEDIR);
            outcome.and(removed)?;
        }
        Ok(())
    }
}

fn temporary_name(store: &OsStr) -> OsString {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijkmnpqrstuvwx";
    // The standard library's own source of random keys; a name that is taken is not used, so nothing depends on it.
    let bits = RandomState::new().build_hasher().finish();
    let random: String =
        (0..RANDOM).map(|i| DIGITS[(bits >> (5 * i)) as usize % DIGITS.len()] as char).collect();
    let mut name = OsString::from(".");
    name.push(store);
    name.push(format!(".{random}{SUFFIX}"));
    name
}

fn is_temporary_name(name: &[u8], store: &OsStr) -> bool {
    name.strip_prefix(b".")
        .and_then(|rest| rest.strip_prefix(store.as_bytes()))
        .and_then(|rest| rest.strip_prefix(b"."))
        .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()))
        .is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric))
}

/// Removes the temporary directories of builders that are no more. What cannot be read or removed is not ours.
fn clear_leftovers(parent: &OwnedFd, folder: &Path, store: &OsStr, cancel: &Cancel) {
    let Ok(entries) = Dir::read_from(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_bytes();
        if is_temporary_name(name, store)
            && let Ok(Some(leftover)) = Locked::take(parent, OsStr::from_bytes(name))
        {
            leftover.remove(folder, cancel);
        }
    }
}

/// What stands where a store should go.
enum Found {
    Nothing,
    Store,
    /// Something else; the text says what.
    Other(String),
}

fn look(parent: &OwnedFd, name: &OsStr) -> Result<Found, Errno> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        outcome => outcome?,
    };
    let other = |what: &str| Ok(Found::Other(what.into()));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {}
        FileType::RegularFile => return other("there is a file of this name"),
        FileType::Symlink => return other("there is a symbolic link of this name"),
        _ => return other("there is something of this name that is neither file nor directory"),
    }
    let directory = rustix::fs::openat(parent, name, OPEN, Mode::empty())?;
    let mut empty = true;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        empty = false;
        let stat = rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_store_file(name) || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let name = String::from_utf8_lossy(name);
            return Ok(Found::Other(format!(
                "there is a directory of this name with {name:?} in it, which is not a store's"
            )));
        }
    }
    if empty {
        return other("there is an empty directory of this name");
    }
    if has_our_metadata(directory.as_fd())? {
        Ok(Found::Store)
    } else {
        other("there is a directory of this name that is not a moola store")
    }
}

/// The names that a store's files may have, in either layout.
fn is_store_file(name: &[u8]) -> bool {
    let per_window = |name: &[u8]| {
        name.strip_prefix(b"features_")
            .and_then(|rest| rest.strip_suffix(b"d.npy"))
            .is_some_and(|width| !width.is_empty() && width.iter().all(u8::is_ascii_digit))
    };
    matches!(
        name,
        b"metadata.json"
            | b"splits.json"
            | b"features.npy"
            | b"valid.npy"
            | b"timestamps.npy"
            | b"bars.npy"
            | b"extra.npy"
            | b"valid_mask.npy"
            | b"window_starts.npy"
            | b"checksums.b3"
    ) || per_window(name)
}

/// Whether the metadata begins as ours does. No more is asked: a damaged store may be replaced by a good one.
fn has_our_metadata(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    use std::io::Read;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(directory, "metadata.json", flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        outcome => File::from(outcome?),
    };
    let mut start = Vec::new();
    file.take(RECOGNISED as u64)
        .read_to_end(&mut start)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let start = String::from_utf8_lossy(&start);
    Ok(["\"format_version\"", "\"store_id\"", "\"moola_version\""].iter().all(|key| start.contains(key)))
}

/// Brings a directory and the files in it to disk.
fn sync_directory(path: &Path, cancel: &Cancel) -> Result<(), Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io(path))? {
        let path = entry.map_err(Error::io(path))?.path();
        let file = File::open(&path).map_err(Error::io(&path))?;
        let size = file.metadata().map_err(Error::io(&path))?.len();
        files.push((path, file, size));
    }
    // All of it is under way before any of it is waited for, and no wait is long, so that Ctrl-C is heard.
    for (path, file, size) in &files {
        flush_ahead::in_chunks(*size, cancel, |bytes| {
            flush_ahead::start(file, bytes).map_err(Error::io(path))
        })?;
    }
    for (path, file, size) in &files {
        flush_ahead::in_chunks(*size, cancel, |bytes| {
            flush_ahead::finish(file, bytes).map_err(Error::io(path))
        })?;
    }
    for (path, file, _) in &files {
        cancel.check()?;
        file.sync_all().map_err(Error::io(path))?;
    }
    cancel.check()?;
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::io(path))?;
    cancel.check()
}

/// Directories made so that the store has a place; taken away again, if still empty, when it does not come.
#[derive(Debug)]
struct Parents {
    /// Outermost first.
    made: Vec<PathBuf>,
}

impl Parents {
    fn make(folder: &Path) -> Result<Parents, Error> {
        let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
        let mut parents = Parents { made: Vec::new() };
        for path in missing.into_iter().rev() {
            match fs::create_dir(path) {
                Ok(()) => parents.made.push(path.into()),
                // Another builder was quicker.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(path)(error)),
            }
        }
        Ok(parents)
    }

    /// They stay: their names are brought to disk.
    fn keep(&mut self) -> Result<(), Error> {
        for path in std::mem::take(&mut self.made) {
            let above = path.parent().expect("a directory that was made has one");
            File::open(above).and_then(|directory| directory.sync_all()).map_err(Error::io(above))?;
        }
        Ok(())
    }

    fn remove(&mut self) {
        for path in std::mem::take(&mut self.made).iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        fs::write(
            folder.join("metadata.json"),
            r#"{"format_version": 1, "store_id": "", "moola_version": ""}"#,
        )
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
    fn a_store_appears_whole_and_alone() {
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
            if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            }
            .unwrap();
        }
    }

    #[test]
    fn of_two_builders_the_first_to_publish_wins() {
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
    fn only_one_replaces_a_store() {
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
    fn what_took_the_old_stores_place_is_given_back() {
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

        // Where nothing took its place, the new store may.
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
        let others = [
            ".stores.0123abcd.moola-tmp",
            ".store.0123abc.moola-tmp",
            ".store.0123abcd.moola-tmp2",
            "store.old",
        ];
        for name in others {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::create_dir_all(leftover.join("deep")).unwrap();
        fs::write(leftover.join("deep/file"), "").unwrap();
        let outside = folder.path().join("outside");
        fs::write(&outside, "mine").unwrap();
        std::os::unix::fs::symlink(&outside, leftover.join("link")).unwrap();
        // A file of such a name is not ours.
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
    fn parents_are_made_and_taken_away_again() {
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
    fn temporary_names_are_recognised() {
        let store = OsStr::new("a.b");
        for _ in 0..100 {
            let name = temporary_name(store);
            assert!(is_temporary_name(name.as_bytes(), store), "{name:?}");
            assert!(!is_temporary_name(name.as_bytes(), OsStr::new("a")));
        }
    }
}
