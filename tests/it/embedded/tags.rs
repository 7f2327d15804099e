//! Tags of objects, and the tag by which the links to an object are revoked.

use aws_sdk_s3::types::{Tag, Tagging};

use super::*;

fn tagging(tags: &[(&str, &str)]) -> Tagging {
    let tag = |(name, value): &(&str, &str)| Tag::builder().key(*name).value(*value).build();
    let tags: Vec<Tag> = tags.iter().map(|pair| tag(pair).unwrap()).collect();
    Tagging::builder().set_tag_set(Some(tags)).build().unwrap()
}

impl World {
    async fn tag(&self, key: &str, tags: &[(&str, &str)]) -> Result<(), String> {
        let put = self.client.put_object_tagging().bucket(BUCKET).key(key);
        let sent = put.tagging(tagging(tags)).send().await;
        sent.map(drop)
            .map_err(|error| error.code().unwrap_or_default().to_owned())
    }

    async fn tags(&self, key: &str) -> Vec<(String, String)> {
        let get = self.client.get_object_tagging().bucket(BUCKET).key(key);
        let tags = get.send().await.unwrap().tag_set.into_iter();
        tags.map(|tag| (tag.key, tag.value)).collect()
    }
}

#[tokio::test]
async fn tags_are_kept_until_the_object_is_replaced() {
    let world = World::new().await;
    world.drop_file("by-hand.txt", "text");
    world.put("put.txt", "text").await;
    for key in ["by-hand.txt", "put.txt"] {
        assert!(world.tags(key).await.is_empty());
        world
            .tag(key, &[("team", "sales"), ("a", "")])
            .await
            .unwrap();
        let expected = [("a", ""), ("team", "sales")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(world.tags(key).await, expected);
        assert_eq!(world.get(key).await.unwrap(), "text");
        world.tag(key, &[]).await.unwrap();
        assert!(world.tags(key).await.is_empty());
        world.tag(key, &[("a", "1")]).await.unwrap();
        world.put(key, "other").await;
        assert!(world.tags(key).await.is_empty(), "a new upload has no tags");
    }
    let many: Vec<String> = (0..11).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
    assert_eq!(world.tag("put.txt", &many).await.unwrap_err(), "BadRequest");
    assert_eq!(world.tag("none.txt", &[]).await.unwrap_err(), "NoSuchKey");
}

#[tokio::test]
async fn an_object_with_the_tag_is_denied_to_all_until_it_loses_it() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    let head = async || {
        let head = world.client.head_object().bucket(BUCKET).key("a.txt");
        head.send().await.is_ok()
    };
    for harmless in [("handout-revoked", "false"), ("revoked", "true")] {
        world.tag("a.txt", &[harmless]).await.unwrap();
        assert_eq!(world.get("a.txt").await.unwrap(), "text");
    }
    world
        .tag("a.txt", &[("team", "sales"), ("handout-revoked", "true")])
        .await
        .unwrap();
    assert!(
        world
            .get("a.txt")
            .await
            .unwrap_err()
            .contains("AccessDenied")
    );
    assert!(!head().await);
    let delete = world.client.delete_object_tagging();
    delete.bucket(BUCKET).key("a.txt").send().await.unwrap();
    assert_eq!(world.get("a.txt").await.unwrap(), "text");
    assert!(head().await);
}
