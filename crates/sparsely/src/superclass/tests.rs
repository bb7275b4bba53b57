use super::*;

/// Six classes, ten images each. The first three are taken for one another (0 ↔ 1 ↔ 2), and so are the
/// last two; class 3 is once taken for 4, and 5 once for 0.
fn six() -> Confusion {
    let counts: [[usize; 6]; 6] = [
        [6, 4, 0, 0, 0, 0],
        [2, 6, 2, 0, 0, 0],
        [0, 4, 6, 0, 0, 0],
        [0, 0, 0, 9, 1, 0],
        [0, 0, 0, 1, 7, 2],
        [1, 0, 0, 0, 4, 5],
    ];
    let mut confusion = Confusion::new(6);
    for (label, row) in counts.iter().enumerate() {
        for (taken_for, count) in row.iter().enumerate() {
            let mut probabilities = [0.0; 6];
            probabilities[taken_for] = 1.0;
            for _ in 0..*count {
                confusion.add(label as u32, &probabilities, false);
            }
        }
    }
    confusion
}

#[test]
fn confusions_both_ways_are_one_edge() {
    let graph = six().graph().unwrap();
    // 4 of 10 one way and 2 of 10 the other: (0.4 + 0.2) / 2.
    assert!((graph.weight(0, 1) - 0.3).abs() < 1e-12);
    assert_eq!(graph.weight(0, 1), graph.weight(1, 0));
    assert!((graph.weight(0, 5) - 0.05).abs() < 1e-12);
    assert_eq!(graph.weight(2, 2), 0.0);
    // 0.3 + 0.3 of its two neighbours.
    assert!((graph.degree(1) - 0.6).abs() < 1e-12);
}

#[test]
fn what_groups_keep_is_their_share_of_all_edges() {
    let graph = six().graph().unwrap();
    // Edges: 0-1 .3, 1-2 .3, 3-4 .1, 4-5 .3, 0-5 .05: 1.05 in all, .6 within {0, 1, 2}.
    assert!((graph.kept_share(&[0, 1, 2]) - 0.6 / 1.05).abs() < 1e-12);
    assert!((graph.kept_share(&[3, 4, 5]) - 0.4 / 1.05).abs() < 1e-12);
    // Of 30 ordered pairs 6 lie within each group of three.
    assert_eq!(chance_share(&[vec![0, 1, 2], vec![3, 4, 5]]), 0.4);
    // Degrees of 1.25 and .85 of 2.1: what they keep less the squares of their shares.
    let expected = 1.0 / 1.05 - (1.25_f64 / 2.1).powi(2) - (0.85_f64 / 2.1).powi(2);
    let found = graph.modularity(&[vec![0, 1, 2], vec![3, 4, 5]]);
    assert!((found - expected).abs() < 1e-12);
}

#[test]
fn either_method_finds_the_two_heaps() {
    let graph = six().graph().unwrap();
    for method in [Method::Spectral, Method::Modularity] {
        for balanced in [false, true] {
            let grouping = Grouping { method: method.clone(), balanced, seed: 3 };
            assert_eq!(group(&graph, 2, &grouping).unwrap(), [[0, 1, 2], [3, 4, 5]]);
        }
    }
}

#[test]
fn probabilities_tell_of_confusion_before_there_are_mistakes() {
    let mut counted = Confusion::new(2);
    counted.add(0, &[0.75, 0.25], false);
    assert_eq!((counted.top1(), counted.shares()), (1.0, vec![1.0, 0.0, 0.0, 0.0]));
    assert_eq!(
        counted.graph().unwrap_err().to_string(),
        "super-classes: expected a model that confuses classes (or their probabilities: --soft), got \
         one that is right about all of 1 images"
    );
    let mut soft = Confusion::new(2);
    soft.add(0, &[0.75, 0.25], true);
    assert_eq!(soft.graph().unwrap().weight(0, 1), 0.125);
}

#[test]
fn balanced_groups_of_uneven_heaps_differ_by_one_at_most() {
    // A chain 0-1-2-3-4 of strong edges and a single 5: two groups of three cut it once.
    let mut confusion = Confusion::new(6);
    for class in 0..4 {
        let mut probabilities = [0.0; 6];
        probabilities[class] = 0.5;
        probabilities[class + 1] = 0.5;
        confusion.add(class as u32, &probabilities, true);
    }
    let graph = confusion.graph().unwrap();
    for method in [Method::Spectral, Method::Modularity] {
        let grouping = Grouping { method, balanced: true, seed: 0 };
        let groups = group(&graph, 2, &grouping).unwrap();
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 3]);
        // Four edges of equal weight, of which one is cut.
        let kept: f64 = groups.iter().map(|group| graph.kept_share(group)).sum();
        assert!((kept - 0.75).abs() < 1e-12, "{groups:?}");
    }
}

#[test]
fn random_groups_have_the_sizes_that_are_asked_for() {
    let graph = six().graph().unwrap();
    let sizes_of = |sizes: Option<Vec<usize>>, k| {
        let grouping = Grouping { method: Method::Random { sizes }, balanced: false, seed: 7 };
        let groups = group(&graph, k, &grouping)?;
        let mut all = groups.concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        Ok::<_, Error>(groups.iter().map(Vec::len).collect::<Vec<_>>())
    };
    assert_eq!(sizes_of(None, 4).unwrap(), [2, 2, 1, 1]);
    assert_eq!(sizes_of(Some(vec![1, 5]), 2).unwrap(), [5, 1]);
    assert_eq!(
        sizes_of(Some(vec![1, 4]), 2).unwrap_err().to_string(),
        "random groups: expected sizes of 2 groups of 6 classes, got [1, 4]"
    );
}

#[test]
fn fewer_classes_than_experts_are_refused() {
    let grouping = Grouping { method: Method::Spectral, balanced: false, seed: 0 };
    let graph = six().graph().unwrap();
    assert_eq!(
        group(&graph, 7, &grouping).unwrap_err().to_string(),
        "super-classes: expected 1 to 6 experts, each with a class of its own or more, got 7"
    );
    for k in [1, 5, 6] {
        assert!(group(&graph, k, &grouping).unwrap().iter().all(|group| !group.is_empty()));
    }
}

#[test]
fn groups_of_other_classes_are_refused() {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let data = names(&["cat", "dog", "car"]);
    let of = |groups: &[&[&str]]| {
        groups_of(&data, &groups.iter().map(|group| names(group)).collect::<Vec<_>>())
            .map_err(|error| error.to_string())
    };
    assert_eq!(of(&[&["car"], &["dog", "cat"]]), Ok(vec![1, 1, 0]));
    assert_eq!(
        of(&[&["car"], &["dog", "cow"]]).unwrap_err(),
        "super-classes: expected the data's classes, such as `cat`, got `cow`, which is none of them"
    );
    assert_eq!(
        of(&[&["car"], &["dog"]]).unwrap_err(),
        "super-classes: expected a group for each of the data's 3 classes, got none with `cat`"
    );
    assert_eq!(
        of(&[&["car", "cat"], &["dog", "cat"]]).unwrap_err(),
        "super-classes: expected each of the data's 3 classes once, got 4 names"
    );
}
