//! A pass over a store's bars that computes every row.
//!
//! A pass goes over the rows once, in pieces that fit into the cache. If there are several segments, several
//! lanes work in parallel. Two threads never share a segment.

use std::ops::Range;

use rayon::prelude::*;

use super::plan::Plan;
use crate::bars::Bars;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::features::{Engine, compute};
use crate::npy::NpyReader;

/// Rows of one piece.
pub(super) const PIECE: usize = 1 << 16;

/// One piece of a store's rows, passed to the receiver. The receiver may take the buffers.
pub(super) struct Piece<'a> {
    /// The first row.
    pub(super) first: u64,
    /// `[n, 4]`, as in `bars.npy`.
    pub(super) bars: &'a [f64],
    /// `[n, D]`.
    pub(super) features: &'a mut Vec<f32>,
    /// `[n]`.
    pub(super) valid: &'a mut Vec<u8>,
}

/// Segments that one lane goes through: several short ones that fill at most one piece, or one of any length.
#[derive(Clone)]
struct Stretch {
    segments: Range<usize>,
    rows: Range<u64>,
}

/// Groups the segments into stretches, in order.
fn stretches(segments: &[(u64, u64)]) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for (i, &(first, rows)) in segments.iter().enumerate() {
        match all.last_mut() {
            Some(last) if first + rows - last.rows.start <= PIECE as u64 => {
                last.segments.end = i + 1;
                last.rows.end = first + rows;
            }
            _ => all.push(Stretch { segments: i..i + 1, rows: first..first + rows }),
        }
    }
    all
}

/// One of several positions at which a pass works in parallel.
struct Lane {
    stretch: Stretch,
    engine: Engine,
    /// The most recently computed rows.
    rows: Range<u64>,
    bars: Vec<f64>,
    columns: [Vec<f64>; 4],
    features: Vec<f32>,
    valid: Vec<u8>,
    /// First valid rows of the segments that have ended.
    first_valid: Vec<Option<u64>>,
}

impl Lane {
    fn new(plan: &Plan) -> Result<Self, Error> {
        let mut engine = Engine::new(plan.set, plan.parameters)?;
        engine.set_prices(plan.prices)?;
        Ok(Lane {
            stretch: Stretch { segments: 0..0, rows: 0..0 },
            engine,
            rows: 0..0,
            bars: Vec::new(),
            columns: Default::default(),
            features: Vec::new(),
            valid: Vec::new(),
            first_valid: Vec::new(),
        })
    }

    fn begin(&mut self, stretch: Stretch) {
        self.rows = stretch.rows.start..stretch.rows.start;
        self.stretch = stretch;
        self.engine.reset();
    }

    fn is_done(&self) -> bool {
        self.rows.end == self.stretch.rows.end
    }

    /// Reads and computes the next rows of the stretch.
    fn advance(&mut self, plan: &Plan, source: &NpyReader<f64>, cancel: &Cancel) -> Result<(), Error> {
        self.rows = self.rows.end..self.stretch.rows.end.min(self.rows.end + PIECE as u64);
        let (n, width) = ((self.rows.end - self.rows.start) as usize, self.engine.width());
        self.bars.resize(4 * n, 0.0);
        self.features.resize(width * n, 0.0);
        self.valid.resize(n, 0);
        source.read(4 * self.rows.start, &mut self.bars)?;
        for (k, column) in self.columns.iter_mut().enumerate() {
            column.clear();
            column.extend(self.bars.as_chunks::<4>().0.iter().map(|row| row[k]));
        }
        let [open, high, low, close] = &self.columns;
        let bars = Bars::new(open, high, low, close)?;
        let mut at = self.rows.start;
        while at < self.rows.end {
            let (first, rows) = plan.segments[self.stretch.segments.start];
            let end = self.rows.end.min(first + rows);
            let part = (at - self.rows.start) as usize..(end - self.rows.start) as usize;
            let features = &mut self.features[part.start * width..part.end * width];
            compute(&mut self.engine, bars.slice(part.clone()), features, cancel)?;
            let valid = self.engine.first_valid().map(|row| first + row).filter(|&row| row < end);
            let invalid = (valid.unwrap_or(end).max(at) - at) as usize;
            let mask = &mut self.valid[part];
            mask[..invalid].fill(0);
            mask[invalid..].fill(1);
            if end == first + rows {
                self.first_valid.push(valid);
                self.stretch.segments.start += 1;
                self.engine.reset();
            }
            at = end;
        }
        Ok(())
    }
}

/// Goes over the bars once, in up to `lanes` lanes, and hands each computed piece to `take`. With one lane the pieces
/// come in order. Returns the first valid row of every segment.
pub(super) fn each_piece(
    plan: &Plan,
    lanes: usize,
    cancel: &Cancel,
    mut take: impl FnMut(Piece<'_>) -> Result<(), Error>,
) -> Result<Vec<Option<u64>>, Error> {
    let source = NpyReader::<f64>::open(plan.folder.join("bars.npy"), &[plan.rows, 4])?;
    let mut first_valid = vec![None; plan.segments.len()];
    let mut waiting = stretches(&plan.segments).into_iter();
    let mut lanes = (0..lanes.max(1)).map(|_| Lane::new(plan)).collect::<Result<Vec<Lane>, Error>>()?;
    let parallel = lanes.len() > 1;
    let mut pass = |pool: Option<&rayon::ThreadPool>| -> Result<(), Error> {
        loop {
            for lane in lanes.iter_mut().filter(|lane| lane.is_done()) {
                if let Some(stretch) = waiting.next() {
                    lane.begin(stretch);
                }
            }
            let mut busy: Vec<&mut Lane> = lanes.iter_mut().filter(|lane| !lane.is_done()).collect();
            if busy.is_empty() {
                return Ok(());
            }
            cancel.check()?;
            match pool {
                Some(pool) if busy.len() > 1 => pool.install(|| {
                    busy.par_iter_mut().try_for_each(|lane| lane.advance(plan, &source, cancel))
                })?,
                _ => busy.iter_mut().try_for_each(|lane| lane.advance(plan, &source, cancel))?,
            }
            for lane in busy {
                let ended = lane.stretch.segments.start - lane.first_valid.len()..lane.stretch.segments.start;
                first_valid[ended].copy_from_slice(&lane.first_valid);
                lane.first_valid.clear();
                let Lane { rows, bars, features, valid, .. } = lane;
                take(Piece { first: rows.start, bars, features, valid })?;
            }
        }
    };
    if parallel {
        // The scope joins the pool's threads before this returns, so that no thread is alive at a later fork.
        rayon::ThreadPoolBuilder::new()
            .num_threads(plan.threads)
            .build_scoped(|thread| thread.run(), |pool| pass(Some(pool)))
            .map_err(|error| Error::io("starting threads")(std::io::Error::other(error)))??;
    } else {
        pass(None)?;
    }
    Ok(first_valid)
}

/// How many lanes a pass of this plan can use.
pub(super) fn lanes_in_use(plan: &Plan) -> usize {
    plan.threads.min(stretches(&plan.segments).len())
}
