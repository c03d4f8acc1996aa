//! Batches of windows, gathered from the stores, with their masks.

use super::masks::{Masking, Scratch, Strategy, TOGETHER, draw};
use super::split::{Place, Windows};
use crate::error::Error;
use crate::keys::fold;
use crate::simd::{Purpose, prefetch};

/// The arrays of a batch of B windows, to be filled. All are C-ordered.
#[derive(Debug)]
pub struct Batch<'a> {
    /// `[B, K, D + E]`.
    pub x: &'a mut [f32],
    /// `[B, K]`, 1 where a position is masked.
    pub mask: &'a mut [u8],
    /// `[B, K]`, 1 where a bar is valid.
    pub valid: &'a mut [u8],
}

impl Windows<'_> {
    /// Fills batches with these windows, in order, on the calling thread. One batch is too little work to
    /// split. To use several processors, fill several batches from several threads.
    pub fn fill(&self, windows: &[u64], batches: Vec<Batch<'_>>, masking: &Masking) -> Result<(), Error> {
        if let Strategy::Patch(0) = masking.strategy {
            return Err(Error::Windows("a patch must have at least one position"));
        }
        if !(0.0..=1.0).contains(&masking.ratio) {
            return Err(Error::Windows("the masked share must lie in 0 … 1"));
        }
        let mut rest = windows;
        let mut work = Vec::with_capacity(batches.len());
        for batch in batches {
            let size = batch.mask.len() / self.length;
            let (these, others) = rest.split_at_checked(size).ok_or(Error::Windows(SIZES))?;
            let positions = size * self.length;
            if [batch.mask.len(), batch.valid.len()] != [positions; 2]
                || batch.x.len() != positions * self.row_width
            {
                return Err(Error::Windows(SIZES));
            }
            let places = these.iter().map(|&w| self.place(w).ok_or(Error::NoWindow(w, self.count)));
            work.push((places.collect::<Result<Vec<_>, _>>()?, batch));
            rest = others;
        }
        if !rest.is_empty() {
            return Err(Error::Windows(SIZES));
        }
        if windows.is_empty() {
            // A split without windows may have any length; memory for that length may not exist.
            return Ok(());
        }
        let mut scratch = Scratch::new(self.length);
        for (places, batch) in work {
            self.fill_one(&places, batch, masking, &mut scratch);
        }
        Ok(())
    }

    fn fill_one(&self, places: &[Place], batch: Batch<'_>, masking: &Masking, scratch: &mut Scratch) {
        let Batch { x, mask, valid } = batch;
        let (length, size) = (self.length, self.length * self.row_width);
        let mut base = (None, 0);
        let mut keys = [0; TOGETHER];
        for (i, place) in places.iter().enumerate() {
            if let Some(later) = places.get(i + AHEAD) {
                self.prefetch(later);
            }
            let store = &self.stores[place.store as usize];
            let position = place.place as usize * if store.dense { length } else { 1 };
            let source = &store.features[position * self.width..][..length * self.width];
            let out = &mut x[i * size..][..size];
            let columns = &self.extra[place.store as usize];
            if columns.is_empty() {
                out.copy_from_slice(source);
            } else {
                let extra = &store.extra[place.row as usize * store.extra_width..];
                let rows = source.chunks_exact(self.width).zip(extra.chunks_exact(store.extra_width));
                for (out, (features, extra)) in out.chunks_exact_mut(self.row_width).zip(rows) {
                    let (head, tail) = out.split_at_mut(self.width);
                    head.copy_from_slice(features);
                    for (out, &column) in tail.iter_mut().zip(columns) {
                        *out = extra[column];
                    }
                }
            }
            let valid_of = &mut valid[i * length..][..length];
            for (out, &v) in valid_of.iter_mut().zip(&store.valid[position..][..length]) {
                *out = u8::from(v != 0);
            }
            if base.0 != Some(place.symbol) {
                base = (Some(place.symbol), masking.base(place.symbol, length));
            }
            let (group, at) = (i - i % TOGETHER, i % TOGETHER);
            keys[at] = fold(base.1, self.last_time(place) as u64);
            if at + 1 == TOGETHER || i + 1 == places.len() {
                let these = group * length..(i + 1) * length;
                draw(self.level, &keys[..=at], masking, &valid[these.clone()], scratch, &mut mask[these]);
            }
        }
    }

    /// Prefetches a window's memory while there is other work to do. Windows lie at random places, so each
    /// would begin with a wait for its address and its data. Every cache line is fetched. The first-level
    /// cache has no room for later windows, so it is left out.
    #[inline(always)]
    fn prefetch(&self, place: &Place) {
        const LINE: usize = 64;
        let store = &self.stores[place.store as usize];
        let position = place.place as usize * if store.dense { self.length } else { 1 };
        let first = store.features[position * self.width..].as_ptr().cast::<u8>();
        for offset in (0..self.length * self.width * size_of::<f32>()).step_by(LINE) {
            prefetch(first.wrapping_add(offset), Purpose::Later);
        }
        prefetch(&raw const store.valid[position], Purpose::Now);
        prefetch(&raw const store.timestamps[place.row as usize + self.length - 1], Purpose::Now);
    }
}

/// How many windows ahead memory is prefetched.
const AHEAD: usize = 8;

const SIZES: &str = "the batches do not have the size of these windows";
