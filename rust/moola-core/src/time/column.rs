//! A column of texts, as Arrow lays it out.

/// Texts that mean "no value", besides the empty text.
const NULLS: [&[u8]; 9] = [b"NaN", b"nan", b"NaT", b"null", b"NULL", b"None", b"NA", b"N/A", b"n/a"];

/// A column of texts in Arrow's layout: text `i` is `data[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    offsets: &'a [i64],
    data: &'a [u8],
    null: Option<&'a [bool]>,
}

impl<'a> Texts<'a> {
    /// The column, or `None` if the offsets do not describe texts within `data`.
    pub fn new(offsets: &'a [i64], data: &'a [u8], null: Option<&'a [bool]>) -> Option<Self> {
        let (first, last) = (*offsets.first()?, *offsets.last()?);
        let sound = first >= 0
            && usize::try_from(last).is_ok_and(|last| last <= data.len())
            && offsets.windows(2).all(|pair| pair[0] <= pair[1])
            && null.is_none_or(|null| null.len() + 1 == offsets.len());
        sound.then_some(Texts { offsets, data, null })
    }

    /// Every text without the white space around it; `None` for a missing value.
    pub(super) fn iter(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        self.offsets.windows(2).enumerate().map(move |(i, range)| {
            if self.null.is_some_and(|null| null[i]) {
                return None;
            }
            let text = self.data[range[0] as usize..range[1] as usize].trim_ascii();
            (!text.is_empty() && !NULLS.contains(&text)).then_some(text)
        })
    }
}
