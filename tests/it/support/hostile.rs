//! Keys and names that have broken other programs.

/// Keys that S3 takes and a browser can open.
pub(crate) fn keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "plain.pdf",
        "a b.pdf",
        "a+b.pdf",
        "100%.pdf",
        "report%20x.pdf",
        "a%2Fb.pdf",
        "ümläut.pdf",
        "u\u{308}nfd.pdf",
        "日本語.pdf",
        "emoji 🎉👩‍👩‍👧.png",
        "quote\".pdf",
        "it's.pdf",
        "<script>alert(1)</script>.pdf",
        "\"><img src=x onerror=alert(1)>.png",
        "{{customer}}.pdf",
        "{{#each x}}.pdf",
        "a&b=c?d#e;f.pdf",
        "(1) [2] {3} ~!@$^*,.pdf",
        "back\\slash.pdf",
        "=HYPERLINK(\"http://evil.example\").csv",
        "-2+3.csv",
        "@SUM(1).csv",
        "//double//slash.pdf",
        "/leading.pdf",
        "..hidden/...pdf",
        ".handout/x.pdf",
        "con.txt",
        "invoice\u{202E}fdp.exe",
        "page.html",
        "image.svg",
        "trailing dot.",
        "trailing space ",
        "no-extension",
        "a",
        "a/b",
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    keys.push(format!("long/{}.pdf", "n".repeat(1000)));
    keys.push(format!("{}.pdf", "ü".repeat(500)));
    keys
}

/// Keys that S3 takes and no browser can open, or no mail can carry.
pub(crate) const UNLINKABLE: [&str; 6] = [
    "a/../b.pdf",
    "./c.pdf",
    "d/..",
    "new\nline.pdf",
    "bell\u{7}.pdf",
    "del\u{7f}.pdf",
];
