//! Readers who hold all slots of the links, and the others.

use tokio::task::JoinSet;

use super::*;

/// Begins downloads of a large object by `links` links, each by `each` connections, of which no more is read.
async fn stalled(world: &World, links: std::ops::Range<u64>, each: usize) -> Vec<TcpStream> {
    let mut stalled = Vec::new();
    for number in links {
        let link = world.link("large", 3600 + number).await;
        let request = format!(
            "GET {link} HTTP/1.1\r\nHost: {}\r\n\r\n",
            world.endpoint.address()
        );
        let begun = held(world.endpoint.address(), each, &request).await;
        for stream in &begun {
            stream.readable().await.unwrap();
        }
        stalled.extend(begun);
    }
    stalled
}

/// Reads a download to its end, steadily, and tells how much it was.
async fn steady(address: SocketAddr, link: String) -> usize {
    let request = format!("GET {link} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut stream = held(address, 1, &request).await.remove(0);
    let (mut total, mut bytes) = (0, vec![0; 1 << 18]);
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return total,
            Ok(read) => total += read,
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

/// The status of an answer that comes within two seconds.
async fn at_once(world: &World, link: &str) -> u16 {
    let answer = tokio::time::timeout(Duration::from_secs(2), world.fetch("GET", link, &[]));
    answer.await.expect("an answer").status
}

async fn world() -> World {
    let world = World::new().await;
    let large = fs::File::create(world.path("large")).unwrap();
    large.set_len(80_000_000).unwrap();
    world.put("small", "small").await;
    world
}

#[tokio::test]
async fn a_recipient_who_reads_twelve_links_slowly_keeps_no_other_reader_out() {
    let world = world().await;
    let stalled = stalled(&world, 0..12, 16).await;
    let small = world.link("small", 600).await;
    for _ in 0..3 {
        assert_eq!(at_once(&world, &small).await, 200);
    }
    drop(stalled);
}

#[tokio::test]
async fn slow_readers_of_a_link_each_give_way_and_the_one_who_reads_well_gets_all_bytes() {
    let world = world().await;
    let address = world.endpoint.address();
    let mut reader = JoinSet::new();
    let link = world.link("large", 600).await;
    reader.spawn(steady(address, link));
    let mut held = stalled(&world, 0..191, 1).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    for number in 200..240 {
        let small = world.link("small", number).await;
        assert_eq!(at_once(&world, &small).await, 200, "{number}");
        held.extend(stalled(&world, number..number + 1, 1).await);
    }
    let read = reader.join_next().await.unwrap().unwrap();
    assert!(
        read > 80_000_000,
        "the steady reader was closed after {read} bytes"
    );
}

#[tokio::test]
async fn a_link_has_one_share_however_its_signature_is_spelled() {
    let world = world().await;
    let link = world.link("large", 600).await;
    let (before, signature) = link.split_once("X-Amz-Signature=").unwrap();
    let (mut held, mut statuses) = (Vec::new(), BTreeMap::new());
    for place in 0..24 {
        let (start, rest) = signature.split_at(place);
        let (digit, rest) = (rest.as_bytes()[0], &rest[1..]);
        let spelled = format!("{before}X-Amz-Signature={start}%{digit:02x}{rest}");
        let answer = format!(
            "GET {spelled} HTTP/1.1\r\nHost: {}\r\n\r\n",
            world.endpoint.address()
        );
        let mut stream = super::held(world.endpoint.address(), 1, &answer).await;
        let mut status = [0; 12];
        stream[0].read_exact(&mut status).await.unwrap();
        *statuses.entry(status[9..].to_vec()).or_insert(0) += 1;
        held.extend(stream);
    }
    let expected = BTreeMap::from([(b"200".to_vec(), 16), (b"503".to_vec(), 8)]);
    assert_eq!(statuses, expected);
}
