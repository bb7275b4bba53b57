//! What to train on and how to disturb it.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Where the images come from and how they are split and augmented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// `digits` for the built-in images, else the path of a folder.
    pub source: String,
    /// Side of the images in pixels that the model sees; without it the source's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// Parquet: the column of the images; empty means the only one with a `bytes` child.
    pub image_column: String,
    /// Parquet: the column of the labels; empty means `label`, `fine_label` or `labels`.
    pub label_column: String,
    /// Share of the images held out of training for validation, in `[0, 0.5]`, where the source
    /// has no validation images of its own.
    pub validation_fraction: f64,
    /// Most training images; of a larger set a share of each class is drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_train_images: Option<usize>,
    /// Most test images; of a larger set a share of each class is drawn, the same for every seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_test_images: Option<usize>,
    /// How training images are disturbed; evaluation never is.
    pub augment: AugmentConfig,
}

/// How training images and their targets are disturbed. The default disturbs nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Black pixels added on each side before a crop of the original size; 0 is off.
    pub crop_padding: usize,
    /// Mirror every second image, at random.
    pub flip: bool,
    /// Both parameters of the Beta distribution that mixup draws its weight from; `None` is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixup_alpha: Option<f64>,
    /// Share of the target that is spread evenly over all classes, in `[0, 1)`.
    pub label_smoothing: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            source: "digits".into(),
            image_size: None,
            image_column: String::new(),
            label_column: String::new(),
            validation_fraction: 0.1,
            max_train_images: None,
            max_test_images: None,
            augment: AugmentConfig::default(),
        }
    }
}

impl DataConfig {
    /// One sentence per setting that cannot work; empty when all can.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.source.is_empty() {
            problems.push("`source` is empty: name a folder or `digits`".into());
        }
        if !(0.0..=0.5).contains(&self.validation_fraction) {
            let got = self.validation_fraction;
            problems.push(format!("`validation_fraction` must be in [0, 0.5], got {got}"));
        }
        let limits = [("train", self.max_train_images), ("test", self.max_test_images)];
        for (split, _) in limits.iter().filter(|(_, limit)| *limit == Some(0)) {
            problems.push(format!(
                "`max_{split}_images` must be at least 1; leave it out for all images"
            ));
        }
        problems.extend(self.augment.problems());
        problems
    }

    /// Refuses settings that cannot work, all at once.
    pub fn validate(&self) -> Result<()> {
        refuse(self.problems())
    }
}

impl AugmentConfig {
    /// One sentence per setting that cannot work; empty when all can.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(alpha) = self.mixup_alpha
            && !(alpha > 0.0 && alpha.is_finite())
        {
            problems.push(format!(
                "`mixup_alpha` must be positive, got {alpha}; leave it out to turn mixup off"
            ));
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            let got = self.label_smoothing;
            problems.push(format!("`label_smoothing` must be in [0, 1), got {got}"));
        }
        problems
    }
}

/// An error of all `problems`, if there are any.
pub(crate) fn refuse(problems: Vec<String>) -> Result<()> {
    if problems.is_empty() { Ok(()) } else { Err(Error::Config { problems }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_told_at_once() {
        let config = DataConfig {
            validation_fraction: 1.0,
            augment: AugmentConfig {
                mixup_alpha: Some(0.0),
                label_smoothing: f64::NAN,
                ..AugmentConfig::default()
            },
            ..DataConfig::default()
        };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "invalid configuration: `validation_fraction` must be in [0, 0.5], got 1; \
             `mixup_alpha` must be positive, got 0; leave it out to turn mixup off; \
             `label_smoothing` must be in [0, 1), got NaN"
        );
    }

    #[test]
    fn configuration_survives_toml() {
        let mut config = DataConfig::default();
        for mixup_alpha in [None, Some(0.5)] {
            config.augment.mixup_alpha = mixup_alpha;
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<DataConfig>(&text).unwrap(), config);
        }
        assert_eq!(toml::from_str::<DataConfig>("").unwrap(), DataConfig::default());
    }

    #[test]
    fn unknown_setting_is_refused() {
        assert!(toml::from_str::<DataConfig>("surce = \"digits\"").is_err());
    }
}
