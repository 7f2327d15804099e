//! Treats an empty setting of a profile as unset, like an empty variable.

use aws_config::SdkConfig;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

/// The SDK's configuration without empty endpoints: a client would panic on one.
pub(super) fn filled(sdk: SdkConfig) -> SdkConfig {
    let endpoint = sdk.endpoint_url().filter(|endpoint| is_filled(endpoint));
    let endpoint = endpoint.map(ToOwned::to_owned);
    let mut builder = sdk.to_builder();
    builder.set_endpoint_url(endpoint);
    builder.service_config(FilledServices(sdk)).build()
}

fn is_filled(text: &str) -> bool {
    !text.trim().is_empty()
}

/// The settings of single services.
#[derive(Debug)]
struct FilledServices(SdkConfig);

impl LoadServiceConfig for FilledServices {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let setting = self.0.service_config()?.load_config(key);
        setting.filter(|setting| is_filled(setting))
    }
}
