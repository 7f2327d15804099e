//! Keys and names that have broken other programs.

/// Keys that S3 accepts and a browser can open.
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

/// Keys that S3 accepts and that browsers cannot open or mails cannot carry.
pub(crate) const UNLINKABLE: [&str; 6] = [
    "a/../b.pdf",
    "./c.pdf",
    "d/..",
    "new\nline.pdf",
    "bell\u{7}.pdf",
    "del\u{7f}.pdf",
];

/// Texts that have broken mail headers: as a name or a subject, each must arrive unchanged.
pub(crate) fn words() -> Vec<String> {
    let others = [
        "=?utf-8?q?not_encoded?=",
        "a =?utf-8?b?SGk=?= b",
        "Bell, Ann",
        "Ann <ann@evil.example>",
        "ann@evil.example",
        "J.R. Bob",
        "Bell; Ann: x@y.example;",
        "(a comment) Ann",
        "\"Ann\"",
        "unclosed \"quote",
        "two  spaces   three",
        "Ännchen von Tharau, geborene \"Neander\"",
        "%0d%0aBcc: evil@x.example",
        "\\r\\nBcc: evil@x.example",
        "Åsa 🎉 Öberg-日本語 ليلى שלום",
        "z\u{336}a\u{336}l\u{336}g\u{336}o\u{336}",
        "\u{feff}zero\u{200b}width",
    ];
    let long = ["w".repeat(150), "ü".repeat(99), "a b ".repeat(49)];
    let all = others
        .map(ToOwned::to_owned)
        .into_iter()
        .chain(long)
        .chain(keys());
    all.map(|word| word.trim().to_owned()).collect()
}
