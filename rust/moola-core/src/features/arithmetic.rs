//! The two rules that hold in every formula: 0/0 is 0, and results are clipped to their range.

/// `a/b`, where 0/0 is 0 and x/0 is ±infinity, which a clip then bounds. There is no branch, so loops
/// vectorise.
#[inline(always)]
pub fn ratio(a: f64, b: f64) -> f64 {
    let quotient = a / b;
    if (a == 0.0) & (b == 0.0) { 0.0 } else { quotient }
}

/// `1/b`, for [`product`]. For accepted prices it neither overflows nor loses digits.
#[inline(always)]
pub fn reciprocal(b: f64) -> f64 {
    1.0 / b
}

/// `a/b` from `a` and `1/b`, by the same rule: 0/0 is 0, x/0 is ±infinity.
#[inline(always)]
pub fn product(a: f64, per_b: f64) -> f64 {
    let product = a * per_b;
    if a == 0.0 { 0.0 } else { product }
}

/// `x` clipped to [low, high]. `x` must not be NaN.
#[inline(always)]
pub fn clip(x: f64, low: f64, high: f64) -> f64 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_over_zero_is_zero_and_anything_else_is_ieee() {
        assert_eq!(ratio(0.0, 0.0), 0.0);
        assert_eq!(ratio(1.0, 0.0), f64::INFINITY);
        assert_eq!(ratio(-1.0, 0.0), f64::NEG_INFINITY);
        assert_eq!(ratio(0.0, 2.0), 0.0);
        assert_eq!(ratio(1.0, 3.0), 1.0 / 3.0);
    }

    #[test]
    fn a_product_with_the_reciprocal_is_the_ratio() {
        for (a, b) in
            [(0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 2.0), (-3.0, 4.0), (1e-38, 1e-54), (3.4e38, 3.4e38)]
        {
            assert_eq!(product(a, reciprocal(b)) as f32, ratio(a, b) as f32, "{a}/{b}");
        }
    }

    #[test]
    fn clip_bounds_infinities_too() {
        assert_eq!(
            [f64::NEG_INFINITY, -4.0, 0.5, 4.0, f64::INFINITY].map(|x| clip(x, -3.0, 3.0)),
            [-3.0, -3.0, 0.5, 3.0, 3.0]
        );
    }
}
