//! Reading a text piece by piece: numbers, words, clocks and offsets.

/// The part of a text that has not been read yet.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl Cursor<'_> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.0 = &self.0[bytes..];
    }

    pub(super) fn eat(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.skip(1))
    }

    pub(super) fn spaces(&mut self) -> usize {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.skip(count);
        count
    }

    /// A number of `min` to `max` digits. Takes as many digits as there are.
    pub(super) fn number(&mut self, min: usize, max: usize) -> Option<u32> {
        let count = self.0.iter().take(max).take_while(|byte| byte.is_ascii_digit()).count();
        if count < min {
            return None;
        }
        let number = self.0[..count].iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        self.skip(count);
        Some(number)
    }

    /// The digits after a decimal point, as nanoseconds.
    pub(super) fn fraction(&mut self) -> Option<u32> {
        let before = self.0.len();
        let number = self.number(1, 9)?;
        Some(number * 10u32.pow(9 - (before - self.0.len()) as u32))
    }

    /// An offset as `Z`, `UTC`, `+01`, `+0100`, `+01:00` or `GMT+0100`, in seconds ahead of UTC.
    pub(super) fn offset(&mut self) -> Option<i32> {
        if self.eat(b'Z').or_else(|| self.eat(b'z')).is_some() {
            return Some(0);
        }
        let named = self.word(&["UTC", "GMT"]).is_some();
        match self.peek() {
            Some(b'+' | b'-') => self.hours_ahead(2),
            _ => named.then_some(0),
        }
    }

    /// A sign, hours of at least `hour_digits` digits and perhaps minutes, in seconds ahead of UTC.
    pub(super) fn hours_ahead(&mut self, hour_digits: usize) -> Option<i32> {
        let sign = if self.eat(b'+').is_some() {
            1
        } else {
            self.eat(b'-')?;
            -1
        };
        let hours = self.number(hour_digits, 2)?;
        let minutes = match self.peek() {
            Some(b':') => {
                self.skip(1);
                self.number(2, 2)?
            }
            Some(b'0'..=b'9') => self.number(2, 2)?,
            _ => 0,
        };
        (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60) as i32)
    }

    /// The index of one of `words`, in upper or lower case.
    pub(super) fn word(&mut self, words: &[&str]) -> Option<usize> {
        let found = words.iter().position(|word| {
            self.0.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
        })?;
        self.skip(words[found].len());
        Some(found)
    }

    /// A time of day as `H:M`, `H:M:S` or `H:M:S.f`: hour, minute, second, nanosecond. The hour has at least `hour_digits`
    /// digits.
    pub(super) fn clock(&mut self, hour_digits: usize) -> Option<(u32, u32, u32, u32)> {
        let hour = self.number(hour_digits, 2)?;
        self.eat(b':')?;
        let minute = self.number(2, 2)?;
        let (mut second, mut nanosecond) = (0, 0);
        if self.eat(b':').is_some() {
            second = self.number(2, 2)?;
            if self.eat(b'.').is_some() || self.eat(b',').is_some() {
                nanosecond = self.fraction()?;
            }
        }
        Some((hour, minute, second, nanosecond))
    }

    pub(super) fn at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// Converts an hour of a 12-hour clock to 24 hours. `half` is 0 for AM and 1 for PM: 12 AM is 0, 12 PM is 12.
pub(super) fn on_24_hours(hour: u32, half: usize) -> Option<u32> {
    (1..=12).contains(&hour).then_some(hour % 12 + 12 * half as u32)
}
