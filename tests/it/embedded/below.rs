//! Links whose public URL has a path.

use presign::ServerUrl;

use super::*;

/// The public path is the name of a bucket, too, and in that is an object whose key begins with the name of the other.
#[tokio::test]
async fn a_link_below_a_public_path_opens_its_own_object_however_it_is_spelled() {
    let site_dir = tempfile::tempdir().unwrap();
    for bucket in [BUCKET, "files"] {
        create_bucket(site_dir.path(), bucket).unwrap();
    }
    let sites = vec![site("AKIDONE", site_dir.path())];
    let any = "127.0.0.1:0".parse().unwrap();
    let public = ServerUrl::parse("http://files.acme.example/files").unwrap();
    let endpoint = Endpoint::start_behind(any, sites, &public).await;
    let endpoint = endpoint.unwrap();
    let own = client(endpoint.address(), "AKIDONE");
    let public = format!("http://{}/files/", endpoint.address());
    let public = own.config().to_builder().endpoint_url(public).build();
    let world = World {
        client: Client::from_conf(public),
        endpoint,
        site: site_dir,
    };
    world.drop_file("x.txt", "its own");
    fs::create_dir(world.site.path().join("files").join(BUCKET)).unwrap();
    fs::write(world.site.path().join("files/reports/x.txt"), "another").unwrap();
    let link = world.link("x.txt", 600).await;
    assert!(link.starts_with("/files/reports/x.txt?"), "{link}");
    let taken_off = link.replacen("/files", "", 1);
    let digit = link.split_once("X-Amz-Signature=").unwrap().1.as_bytes()[0];
    let encoded = format!("X-Amz-Signature=%{digit:02X}");
    let plain = format!("X-Amz-Signature={}", char::from(digit));
    for whole in [&link, &taken_off] {
        for spelled in [
            whole.clone(),
            whole.replacen("/files/", "/%66iles/", 1),
            whole.replacen("/files/", "/files%2F", 1),
            whole.replacen("/files/", "/file%73%2f", 1),
            whole.replacen("/reports/", "/%72eports/", 1),
            whole.replacen("X-Amz-Signature", "X-Amz-Signatur%65", 1),
            whole.replacen(&plain, &encoded, 1),
            format!("{whole}&"),
        ] {
            let answer = world.fetch("GET", &spelled, &[]).await;
            let read = (answer.status, answer.body.as_str());
            assert_eq!(read, (200, "its own"), "{spelled}");
        }
    }
    for (from, to) in [
        ("/files/", "/files/files/"),
        ("/files/", "//files/"),
        ("/files/", "/files//"),
        ("x.txt", "y.txt"),
        ("X-Amz-Expires=600", "X-Amz-Expires=601"),
    ] {
        let changed = link.replacen(from, to, 1);
        let answer = world.fetch("GET", &changed, &[]).await;
        let is_refused = [400, 403].contains(&answer.status);
        assert!(is_refused, "{changed}: {}", answer.body);
    }
    // The daemon asks the endpoint itself, where the bucket is one as others are.
    let object = own.get_object().bucket("files").key("reports/x.txt");
    let object = object.send().await.unwrap().body.collect().await.unwrap();
    assert_eq!(object.to_vec(), b"another");
}
