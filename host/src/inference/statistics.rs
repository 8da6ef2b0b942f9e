//! What requests of a model took, added up over the workers that have it.

use std::collections::BTreeMap;

use super::open_inference::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};

/// One entry for each version of a model, however many workers tell of it.
pub fn merged(told: impl IntoIterator<Item = ModelStatistics>) -> Vec<ModelStatistics> {
    let mut models: BTreeMap<(String, String), ModelStatistics> = BTreeMap::new();
    for model in told {
        let key = (model.name.clone(), model.version.clone());
        match models.get_mut(&key) {
            Some(sum) => add(sum, model),
            None => _ = models.insert(key, model),
        }
    }
    models.into_values().collect()
}

fn add(sum: &mut ModelStatistics, more: ModelStatistics) {
    sum.last_inference = sum.last_inference.max(more.last_inference);
    sum.inference_count += more.inference_count;
    sum.execution_count += more.execution_count;
    let (before, after) = (
        sum.inference_stats.unwrap_or_default(),
        more.inference_stats.unwrap_or_default(),
    );
    sum.inference_stats = Some(InferStatistics {
        success: together(before.success, after.success),
        fail: together(before.fail, after.fail),
        queue: together(before.queue, after.queue),
        compute_input: together(before.compute_input, after.compute_input),
        compute_infer: together(before.compute_infer, after.compute_infer),
        compute_output: together(before.compute_output, after.compute_output),
    });
    for batch in more.batch_stats {
        add_batch(&mut sum.batch_stats, batch);
    }
}

fn add_batch(sums: &mut Vec<InferBatchStatistics>, more: InferBatchStatistics) {
    match sums.iter_mut().find(|sum| sum.batch_size == more.batch_size) {
        None => sums.push(more),
        Some(sum) => {
            sum.compute_input = together(sum.compute_input, more.compute_input);
            sum.compute_infer = together(sum.compute_infer, more.compute_infer);
            sum.compute_output = together(sum.compute_output, more.compute_output);
        }
    }
}

fn together(one: Option<StatisticDuration>, other: Option<StatisticDuration>) -> Option<StatisticDuration> {
    let both = [one, other].into_iter().flatten();
    both.reduce(|one, other| StatisticDuration {
        count: one.count + other.count,
        ns: one.ns + other.ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_two_workers_have_is_told_of_once_with_what_both_did() {
        let took = |count, ns| Some(StatisticDuration { count, ns });
        let told = |version: &str, count| ModelStatistics {
            name: "sums".into(),
            version: version.into(),
            inference_count: count,
            inference_stats: Some(InferStatistics {
                success: took(count, 10),
                ..Default::default()
            }),
            batch_stats: vec![InferBatchStatistics {
                batch_size: count,
                compute_infer: took(1, 5),
                ..Default::default()
            }],
            ..Default::default()
        };
        let merged = merged([told("1", 2), told("2", 7), told("1", 2), told("1", 3)]);
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0].inference_count, 7);
        assert_eq!(merged[0].inference_stats.unwrap().success, took(7, 30));
        let sizes: Vec<_> = merged[0]
            .batch_stats
            .iter()
            .map(|batch| (batch.batch_size, batch.compute_infer))
            .collect();
        assert_eq!(sizes, [(2, took(2, 10)), (3, took(1, 5))]);
        assert_eq!(merged[1].inference_count, 7);
    }
}
