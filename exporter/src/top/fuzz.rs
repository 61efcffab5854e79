//! Fuzz target of the exposition that `top` reads.

use super::exposition::each_sample;
pub(crate) use super::exposition::labels;

/// Checks that every sample has a family and a finite value.
pub(crate) fn exposition(text: &str) {
    each_sample(text, |family, text, value| {
        assert!(value.is_finite() && !family.contains('{'), "{family}");
        assert!(labels(text).len() <= text.len());
    });
}
