//! NumPy's `.npy` files: the fixed header of a store's arrays, large plain writes, and checked reads.
//!
//! Files are written and read plainly, and never mapped. On a full disk a mapped write raises SIGBUS, but
//! `write` returns an error. On a truncated file a mapped read raises SIGBUS, but `pread` returns fewer
//! bytes.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytemuck::Pod;

use crate::error::Error;
use crate::flush_ahead;

/// Bytes before the data: a multiple of 64, so that mapped data is aligned for every instruction set.
pub const HEADER: usize = 128;

/// Appended values are gathered into writes of this many bytes.
const BUFFER: usize = 1 << 20;

/// The element types of a store's arrays. Bytes 0 and 1 are NumPy's `bool`.
pub trait Element: Pod {
    /// NumPy's name for the type.
    const DESCR: &'static str;

    /// The index of the first value that the type allows but NumPy does not.
    fn unsound(_values: &[Self]) -> Option<usize> {
        None
    }
}

impl Element for f32 {
    const DESCR: &'static str = "<f4";
}
impl Element for f64 {
    const DESCR: &'static str = "<f8";
}
impl Element for i64 {
    const DESCR: &'static str = "<i8";
}
impl Element for u8 {
    const DESCR: &'static str = "|b1";

    fn unsound(values: &[u8]) -> Option<usize> {
        // The maximum takes one vectorised pass. The search runs only if something is wrong.
        if values.iter().copied().max().unwrap_or(0) <= 1 { None } else { values.iter().position(|&x| x > 1) }
    }
}

// The headers say little-endian, and values are written as they are in memory.
const _: () = assert!(cfg!(target_endian = "little"), "stores are little-endian");

/// The header that `np.save` writes for a C-ordered array (format 1.0), byte for byte. A store accepts no
/// other header.
///
/// # Errors
/// [`Error::Config`] if `shape` has more digits than fit. Every array of three dimensions that a file can
/// hold fits.
pub fn header(descr: &str, shape: &[u64]) -> Result<[u8; HEADER], Error> {
    let sizes: Vec<String> = shape.iter().map(u64::to_string).collect();
    let tuple = if let [one] = &sizes[..] { format!("({one},)") } else { format!("({})", sizes.join(", ")) };
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {tuple}, }}");
    let mut bytes = [b' '; HEADER];
    bytes[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    bytes[8..10].copy_from_slice(&(HEADER as u16 - 10).to_le_bytes());
    if text.len() >= HEADER - 10 {
        return Err(Error::Config { name: "shape", problem: format!("{shape:?} is larger than any file") });
    }
    bytes[10..10 + text.len()].copy_from_slice(text.as_bytes());
    bytes[HEADER - 1] = b'\n';
    Ok(bytes)
}

/// Writes an array whose length is known only at the end.
#[derive(Debug)]
pub struct NpyWriter<T> {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    /// Bytes in the file, header included.
    written: u64,
    /// The offset up to which the kernel was told to write back.
    started: u64,
    element: PhantomData<T>,
}

impl<T: Element> NpyWriter<T> {
    /// Creates the file, which must not exist, and leaves room for the header.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let file = File::create_new(&path).map_err(Error::io(&path))?;
        // Zeros for now, so that an unfinished file is refused.
        let buffer = vec![0; HEADER];
        Ok(NpyWriter { path, file, buffer, written: 0, started: 0, element: PhantomData })
    }

    /// How many values have been appended.
    pub fn len(&self) -> u64 {
        (self.written + self.buffer.len() as u64 - HEADER as u64) / size_of::<T>() as u64
    }

    /// True when nothing has been appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends values.
    pub fn append(&mut self, values: &[T]) -> Result<(), Error> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        if self.buffer.len() + bytes.len() < BUFFER {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        if bytes.len() < BUFFER {
            self.buffer.extend_from_slice(bytes);
            Ok(())
        } else {
            self.write(bytes)
        }
    }

    /// Writes the header for `shape` and returns the file's size. Publishing flushes the data to disk later.
    ///
    /// # Errors
    /// [`Error::Damaged`] if `shape` does not have as many values as were appended; [`Error::Io`].
    pub fn finish(mut self, shape: &[u64]) -> Result<u64, Error> {
        let wanted = shape.iter().try_fold(1_u64, |product, &n| product.checked_mul(n));
        if wanted != Some(self.len()) {
            let problem = format!(
                "{} values were written, but an array of shape {shape:?} has another number",
                self.len()
            );
            return Err(Error::Damaged { path: self.path, problem });
        }
        self.flush()?;
        self.file.write_all_at(&header(T::DESCR, shape)?, 0).map_err(Error::io(&self.path))?;
        Ok(self.written)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = self.write(&buffer);
        buffer.clear();
        self.buffer = buffer;
        outcome
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::io(&self.path))?;
        self.written += bytes.len() as u64;
        // The first page is left out: the header is written into it last, and each page should be written out
        // only once.
        if self.started == 0 {
            self.started = flush_ahead::PAGE;
        }
        if self.written >= self.started + flush_ahead::CHUNK {
            flush_ahead::start(&self.file, self.started..self.written).map_err(Error::io(&self.path))?;
            self.started = self.written;
        }
        Ok(())
    }
}

/// Writes an array of known shape piece by piece, in any order.
#[derive(Debug)]
pub struct NpyPlaces<T> {
    path: PathBuf,
    file: File,
    element: PhantomData<T>,
}

impl<T: Element> NpyPlaces<T> {
    /// Creates the file, which must not exist, with its header.
    pub fn create(path: impl Into<PathBuf>, shape: &[u64]) -> Result<Self, Error> {
        let path = path.into();
        let file = File::create_new(&path).map_err(Error::io(&path))?;
        file.write_all_at(&header(T::DESCR, shape)?, 0).map_err(Error::io(&path))?;
        Ok(NpyPlaces { path, file, element: PhantomData })
    }

    /// Writes the values from index `first` on, and tells the kernel to start writing them to disk.
    pub fn write(&self, first: u64, values: &[T]) -> Result<(), Error> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let offset = HEADER as u64 + first * size_of::<T>() as u64;
        let outcome = self.file.write_all_at(bytes, offset);
        outcome
            .and_then(|()| flush_ahead::start(&self.file, offset..offset + bytes.len() as u64))
            .map_err(Error::io(&self.path))
    }
}

/// Reads an array of known shape piece by piece. Refuses any other file.
#[derive(Debug)]
pub struct NpyReader<T> {
    path: PathBuf,
    file: File,
    /// Values in the whole array.
    len: u64,
    element: PhantomData<T>,
}

impl<T: Element> NpyReader<T> {
    /// Opens the file and checks its header, byte for byte, and its size.
    pub fn open(path: impl Into<PathBuf>, shape: &[u64]) -> Result<Self, Error> {
        let path = path.into();
        // Opening a FIFO would wait for a writer.
        let file = File::options()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
            .open(&path)
            .map_err(Error::io(&path))?;
        let damaged = |problem: String| Error::Damaged { path: path.clone(), problem };
        let meta = file.metadata().map_err(Error::io(&path))?;
        if !meta.is_file() {
            return Err(damaged("is not a regular file".into()));
        }
        let len = shape
            .iter()
            .try_fold(1u64, |product, &n| product.checked_mul(n))
            .filter(|len| len.checked_mul(size_of::<T>() as u64).is_some_and(|n| n < i64::MAX as u64 - 128))
            .ok_or_else(|| damaged(format!("shape {shape:?} is larger than any file")))?;
        let size = HEADER as u64 + len * size_of::<T>() as u64;
        if meta.len() != size {
            return Err(damaged(format!("has {} bytes, not {size}", meta.len())));
        }
        let reader = NpyReader { path, file, len, element: PhantomData };
        let mut found = [0; HEADER];
        reader.read_bytes(&mut found, 0)?;
        if found != header(T::DESCR, shape)? {
            return Err(
                reader.damaged(format!("its header is not that of a {} array of shape {shape:?}", T::DESCR))
            );
        }
        Ok(reader)
    }

    /// Fills `out` with the values from index `first` on.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the array has no such values, or they are not of its type; [`Error::Io`].
    pub fn read(&self, first: u64, out: &mut [T]) -> Result<(), Error> {
        if first.checked_add(out.len() as u64).is_none_or(|end| end > self.len) {
            let (n, all) = (out.len(), self.len);
            return Err(self.damaged(format!("has {all} values; cannot read {n} from index {first}")));
        }
        self.read_bytes(bytemuck::cast_slice_mut(out), HEADER as u64 + first * size_of::<T>() as u64)?;
        match T::unsound(out) {
            None => Ok(()),
            Some(at) => Err(self.damaged(format!("value {} is neither true nor false", first + at as u64))),
        }
    }

    /// How many values the array has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True when the array has no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read_bytes(&self, out: &mut [u8], offset: u64) -> Result<(), Error> {
        self.file.read_exact_at(out, offset).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => self.damaged("was truncated while it was read".into()),
            _ => Error::io(&self.path)(error),
        })
    }

    fn damaged(&self, problem: String) -> Error {
        Error::Damaged { path: self.path.clone(), problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(outcome: Result<impl std::fmt::Debug, Error>) -> String {
        match outcome {
            Err(Error::Damaged { problem, .. }) => problem,
            other => panic!("not refused as damaged: {other:?}"),
        }
    }

    #[test]
    fn headers_are_numpys() {
        // As saved by numpy 2.4.
        let saved: &[u8] =
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 10), }";
        let header = super::header("<f4", &[3, 10]).unwrap();
        assert_eq!(&header[..saved.len()], saved);
        assert!(header[saved.len()..HEADER - 1].iter().all(|&b| b == b' '));
        assert_eq!(header[HEADER - 1], b'\n');
        assert!(super::header("|b1", &[7]).unwrap().windows(6).any(|w| w == b"(7,), "));
        assert!(super::header("<i8", &[]).unwrap().windows(4).any(|w| w == b"(), "));
        super::header("<f4", &[u64::MAX, 99_999, 9_999]).unwrap();
        assert!(matches!(super::header("<f4", &[u64::MAX; 3]), Err(Error::Config { .. })));
    }

    #[test]
    fn written_values_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        // Pieces smaller than, equal to and larger than the buffer, in all relevant orders.
        for (case, pieces) in [
            vec![],
            vec![1, 2, 3],
            vec![BUFFER / 8],
            vec![5, BUFFER / 8, 7],
            vec![BUFFER / 4, 1],
            vec![3 << 20, 9],
        ]
        .into_iter()
        .enumerate()
        {
            let path = folder.path().join(format!("{case}.npy"));
            let mut writer = NpyWriter::<f64>::create(&path).unwrap();
            let total: usize = pieces.iter().sum();
            let values: Vec<f64> = (0..total).map(|i| i as f64 * 0.5).collect();
            let mut rest = &values[..];
            for n in pieces {
                let (piece, after) = rest.split_at(n);
                writer.append(piece).unwrap();
                rest = after;
            }
            assert_eq!(writer.len(), total as u64);
            let size = writer.finish(&[total as u64]).unwrap();
            assert_eq!(size, (HEADER + 8 * total) as u64);
            let reader = NpyReader::<f64>::open(&path, &[total as u64]).unwrap();
            let mut back = vec![0.0; total];
            reader.read(0, &mut back).unwrap();
            assert!(back == values);
            if total > 2 {
                let mut two = [0.0; 2];
                reader.read(total as u64 - 2, &mut two).unwrap();
                assert_eq!(two, values[total - 2..]);
            }
        }
    }

    #[test]
    fn a_wrong_number_of_values_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let mut writer = NpyWriter::<f32>::create(&path).unwrap();
        writer.append(&[1.0, 2.0]).unwrap();
        assert!(damage(writer.finish(&[3])).contains("2 values were written"));
        std::fs::remove_file(&path).unwrap();
        let mut writer = NpyWriter::<f32>::create(&path).unwrap();
        writer.append(&[1.0, 2.0]).unwrap();
        assert!(damage(writer.finish(&[u64::MAX, 2, 2])).contains("2 values were written"));
        std::fs::remove_file(&path).unwrap();
        let mut writer = NpyWriter::<f32>::create(&path).unwrap();
        writer.append(&[1.0, 2.0]).unwrap();
        writer.finish(&[2]).unwrap();
        let reader = NpyReader::<f32>::open(&path, &[2]).unwrap();
        for first in [1, 2, u64::MAX] {
            assert!(
                damage(reader.read(first, &mut [0.0; 2])).contains("has 2 values; cannot read 2 from index")
            );
        }
    }

    #[test]
    fn a_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(NpyWriter::<f32>::create(&path), Err(Error::Io { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn an_unfinished_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let mut writer = NpyWriter::<i64>::create(&path).unwrap();
        writer.append(&vec![1; BUFFER]).unwrap();
        drop(writer);
        assert!(damage(NpyReader::<i64>::open(&path, &[BUFFER as u64])).contains("header"));
    }

    #[test]
    fn every_kind_of_damage_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let mut writer = NpyWriter::<u8>::create(&path).unwrap();
        writer.append(&[0, 1, 1, 0]).unwrap();
        writer.finish(&[4]).unwrap();
        let good = std::fs::read(&path).unwrap();
        let open = || NpyReader::<u8>::open(&path, &[4]);
        let mut mask = [9; 4];
        open().unwrap().read(0, &mut mask).unwrap();
        assert_eq!(mask, [0, 1, 1, 0]);

        for bit in 0..8 * HEADER {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bad).unwrap();
            assert!(damage(open()).contains("header"), "bit {bit}");
        }
        for size in [0, 1, HEADER, good.len() - 1] {
            std::fs::write(&path, &good[..size]).unwrap();
            assert!(damage(open()).contains("bytes, not 132"), "{size} bytes");
        }
        std::fs::write(&path, [&good[..], b"x"].concat()).unwrap();
        assert!(damage(open()).contains("has 133 bytes"));
        std::fs::write(&path, &good).unwrap();
        assert!(damage(NpyReader::<u8>::open(&path, &[2, 2])).contains("header"));
        assert!(damage(NpyReader::<i64>::open(&path, &[4])).contains("bytes"));
        assert!(damage(NpyReader::<u8>::open(&path, &[u64::MAX, 3])).contains("larger than any file"));
        assert!(damage(NpyReader::<u8>::open(folder.path(), &[4])).contains("regular file"));
        assert!(matches!(
            NpyReader::<u8>::open(folder.path().join("none"), &[4]),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound
        ));

        let mut bad = good.clone();
        bad[HEADER + 2] = 3;
        std::fs::write(&path, bad).unwrap();
        assert!(damage(open().unwrap().read(1, &mut mask[..3])).contains("value 2"));

        std::fs::write(&path, &good).unwrap();
        let reader = open().unwrap();
        File::options().write(true).open(&path).unwrap().set_len(HEADER as u64 + 1).unwrap();
        assert!(damage(reader.read(0, &mut mask)).contains("truncated"));
    }
}
