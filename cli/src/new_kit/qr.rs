//! QR codes (ISO/IEC 18004) as SVG. One path of unit squares, black on white, with the quiet zone of four that readers need.

use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

/// Light modules around the code.
const QUIET: usize = 4;

/// The code that reads `text`, as an SVG of its own size in modules; `label` is what it is called for those who do not see
/// it. Nothing of a text of more than 2331 bytes, which has no code: the path of a share may be that long.
pub(super) fn svg(text: &str, label: &str) -> Zeroizing<String> {
    // Medium correction: a crease or a coffee stain costs up to 15 % of the code.
    let Ok(code) = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::M) else {
        return Zeroizing::default();
    };
    let (width, side) = (code.width(), code.width() + 2 * QUIET);
    let colors = code.into_colors();
    // Long enough from the start: growing would leave copies of what may be secret behind.
    let mut out = Zeroizing::new(String::with_capacity(256 + label.len() + colors.len() * 20));
    out.push_str(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {side} {side}\" \
         shape-rendering=\"crispEdges\"><rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path d=\""
    ));
    for (index, color) in colors.iter().enumerate() {
        if *color == Color::Dark {
            out.push_str(&format!("M{} {}h1v1h-1z", index % width + QUIET, index / width + QUIET));
        }
    }
    out.push_str("\" fill=\"#000\"/></svg>");
    out
}

#[cfg(test)]
#[test]
fn a_text_that_no_code_holds_has_none() {
    assert!(svg(&"x".repeat(2331), "x").starts_with("<svg"));
    assert_eq!(*svg(&"x".repeat(2332), "x"), "");
}

/// What the codes of a page read, in their order: from the SVG's squares, as a camera would see them.
#[cfg(test)]
pub(super) fn read_all(page: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for svg in page.split("<svg ").skip(1) {
        let side: usize = svg
            .split("viewBox=\"0 0 ")
            .nth(1)
            .and_then(|rest| rest.split([' ', '"']).next())
            .and_then(|digits| digits.parse().ok())
            .expect("a view box");
        let path = svg.split("<path d=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a path");
        let mut dark = vec![false; side * side];
        for square in path.split('M').skip(1) {
            let (x, rest) = square.split_once(' ').expect("two numbers");
            let y = rest.split('h').next().expect("a row");
            dark[y.parse::<usize>().expect("a row") * side + x.parse::<usize>().expect("a column")] = true;
        }
        const SCALE: usize = 6;
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(side * SCALE, side * SCALE, |x, y| {
            if dark[y / SCALE * side + x / SCALE] { 0 } else { 255 }
        });
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "one code in an image");
        texts.push(grids[0].decode().expect("it reads").1);
    }
    texts
}
