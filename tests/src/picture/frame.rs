//! A place in the picture.

/// A rectangle, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Frame {
    /// Without so much of its upper edge.
    pub(super) fn below(self, pixels: f64) -> Self {
        Self { top: self.top + pixels, height: self.height - pixels, ..self }
    }

    /// Without so much of its lower edge.
    pub(super) fn above(self, pixels: f64) -> Self {
        Self { height: self.height - pixels, ..self }
    }

    /// Without so much of its left edge.
    pub(super) fn right_of(self, pixels: f64) -> Self {
        Self { left: self.left + pixels, width: self.width - pixels, ..self }
    }

    /// Without so much at the left, the right and below.
    pub(super) fn within(self, pixels: f64) -> Self {
        Self {
            left: self.left + pixels,
            width: self.width - 2.0 * pixels,
            height: self.height - pixels,
            ..self
        }
    }

    pub(super) fn right(self) -> f64 {
        self.left + self.width
    }

    pub(super) fn bottom(self) -> f64 {
        self.top + self.height
    }

    pub(super) fn middle(self) -> f64 {
        self.left + self.width / 2.0
    }
}
