//! Stream state as bytes: little-endian fields in a fixed order, then their BLAKE3 hash.

use crate::error::Error;

const DAMAGED: Error = Error::State("it is damaged");

/// Appends fields.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Raw bytes.
    pub fn bytes(&mut self, x: &[u8]) {
        self.0.extend_from_slice(x);
    }
    /// One signed byte.
    pub fn i8(&mut self, x: i8) {
        self.bytes(&x.to_le_bytes());
    }
    /// One unsigned byte.
    pub fn u8(&mut self, x: u8) {
        self.bytes(&[x]);
    }
    /// A 32-bit number.
    pub fn u32(&mut self, x: u32) {
        self.bytes(&x.to_le_bytes());
    }
    /// A 64-bit number.
    pub fn u64(&mut self, x: u64) {
        self.bytes(&x.to_le_bytes());
    }
    /// A signed 64-bit number.
    pub fn i64(&mut self, x: i64) {
        self.bytes(&x.to_le_bytes());
    }
    /// The bits of a float64.
    pub fn f64(&mut self, x: f64) {
        self.u64(x.to_bits());
    }
    /// A count, then that many float64s.
    pub fn f64s(&mut self, x: &[f64]) {
        self.u32(x.len() as u32);
        x.iter().for_each(|&x| self.f64(x));
    }
    /// A byte that says whether a value follows, then the value.
    pub fn option<T>(&mut self, x: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(x.is_some().into());
        if let Some(x) = x {
            write(self, x);
        }
    }
    /// Appends the hash and returns the state.
    pub fn finish(mut self) -> Vec<u8> {
        let hash = blake3::hash(&self.0);
        self.bytes(hash.as_bytes());
        self.0
    }
}

/// Reads fields in the order in which they were written.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Checks the hash and gives access to the fields before it.
    pub fn new(state: &'a [u8]) -> Result<Self, Error> {
        let (fields, hash) = state.split_last_chunk::<32>().ok_or(DAMAGED)?;
        if blake3::hash(fields) != *hash {
            return Err(DAMAGED);
        }
        Ok(Reader(fields))
    }
    /// Raw bytes.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(DAMAGED)?;
        self.0 = tail;
        Ok(*head)
    }
    /// One signed byte.
    pub fn i8(&mut self) -> Result<i8, Error> {
        self.bytes().map(i8::from_le_bytes)
    }
    /// One unsigned byte.
    pub fn u8(&mut self) -> Result<u8, Error> {
        self.bytes().map(u8::from_le_bytes)
    }
    /// A 32-bit number.
    pub fn u32(&mut self) -> Result<u32, Error> {
        self.bytes().map(u32::from_le_bytes)
    }
    /// A 64-bit number.
    pub fn u64(&mut self) -> Result<u64, Error> {
        self.bytes().map(u64::from_le_bytes)
    }
    /// A signed 64-bit number.
    pub fn i64(&mut self) -> Result<i64, Error> {
        self.bytes().map(i64::from_le_bytes)
    }
    /// The bits of a float64.
    pub fn f64(&mut self) -> Result<f64, Error> {
        self.u64().map(f64::from_bits)
    }
    /// A count of at most `most`, then that many float64s.
    pub fn f64s(&mut self, most: usize) -> Result<Vec<f64>, Error> {
        let n = self.u32()? as usize;
        if n > most {
            return Err(DAMAGED);
        }
        (0..n).map(|_| self.f64()).collect()
    }
    /// A value that may be missing.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(DAMAGED),
        }
    }
    /// Fails if anything is left to read.
    pub fn finish(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(DAMAGED) }
    }
}
