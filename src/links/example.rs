//! URLs of previews: they open nothing, and have the length of real ones.

use presign::PresignedUrl;
use presign::percent::push_path;

/// A URL that opens nothing (RFC 2606), as long in a mail as `real`.
pub(crate) fn example_url(key: &str, real: &PresignedUrl) -> PresignedUrl {
    let mut url = String::from("https://example.invalid/");
    // A link of the portal says nothing of the object.
    if !real.expose().contains('?') {
        url.push_str("d/");
        let missing = real.expose().len().saturating_sub(url.len());
        url.push_str(&"0".repeat(missing));
        return PresignedUrl::new(url);
    }
    push_path(key, &mut url);
    url.push_str("?x-handout=00000000000000000000000000000000&X-Amz-Signature=");
    let missing = mailed_len(real.expose()).saturating_sub(mailed_len(&url));
    url.push_str(&"0".repeat(missing));
    PresignedUrl::new(url)
}

/// How many bytes a URL takes in the HTML of a mail: `&` becomes `&amp;`, and quoted-printable (RFC 2045, 6.7) writes `=` as
/// `=3D`.
fn mailed_len(url: &str) -> usize {
    let byte_len = |byte| match byte {
        b'&' => "&amp;".len(),
        b'=' => "=3D".len(),
        _ => 1,
    };
    url.bytes().map(byte_len).sum()
}
