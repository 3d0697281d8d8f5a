-- Importing models of XGBoost and LightGBM: small ones by hand, and what is
-- refused.  test/python/test_model_files.py compares with the libraries.
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA regress_import_trees;
SET search_path = regress_import_trees, public;
CREATE TABLE files (name text PRIMARY KEY, data text);

-- One tree: age < 40 and plan in {2} (right) or not.
INSERT INTO files VALUES ('xgboost', '{"version":[2,1,4],"learner":{"attributes":{},
"feature_names":["age","plan"],"feature_types":["float","c"],
"objective":{"name":"reg:squarederror","reg_loss_param":{"scale_pos_weight":"1"}},
"learner_model_param":{"base_score":"5E-1","boost_from_average":"1","num_class":"0","num_feature":"2","num_target":"1"},
"gradient_booster":{"name":"gbtree","model":{
"gbtree_model_param":{"num_parallel_tree":"1","num_trees":"1"},"iteration_indptr":[0,1],"tree_info":[0],
"trees":[{"id":0,"tree_param":{"num_deleted":"0","num_feature":"2","num_nodes":"5","size_leaf_vector":"1"},
"left_children":[1,3,-1,-1,-1],"right_children":[2,4,-1,-1,-1],"parents":[2147483647,0,0,1,1],
"split_indices":[0,1,0,0,0],"split_conditions":[4E1,0E0,1E0,2E0,4E0],"default_left":[1,0,0,0,0],
"split_type":[0,1,0,0,0],"categories":[2],"categories_nodes":[1],"categories_segments":[0],"categories_sizes":[1],
"base_weights":[0,0,0,0,0],"loss_changes":[0,0,0,0,0],"sum_hessian":[8,5,3,3,2]}]}}}}');

-- One tree: age <= 40 with NaN to the right, then plan in {0, 2} (left).
INSERT INTO files VALUES ('lightgbm', 'tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=binary sigmoid:1
feature_names=age plan
feature_infos=[1:99] -1:0:1:2
tree_sizes=1

Tree=0
num_leaves=3
num_cat=1
split_feature=0 1
split_gain=1 1
threshold=40 0
decision_type=8 1
left_child=1 -1
right_child=-2 -3
leaf_value=1 2 4
leaf_count=3 3 2
cat_boundaries=0 1
cat_threshold=5
is_linear=0
shrinkage=1


end of trees

feature_importances:
age=1

parameters:
[categorical_feature: 1]
end of parameters

pandas_categorical:[["gold", "silver", "bronze"]]
');

CREATE FUNCTION import(model text, file text, old text DEFAULT '', new text DEFAULT '', options jsonb DEFAULT '{}')
RETURNS int LANGUAGE sql AS $$
	SELECT public.visage_import_model(model, replace(data, old, new), options => options) FROM files WHERE name = file
$$;

SELECT import('regress_xgboost', 'xgboost');
SELECT model, algorithm, inputs, outputs FROM visage.models WHERE model = 'regress_xgboost';
SELECT age, plan, visage_score('regress_xgboost@1', age, plan)
FROM (VALUES (39.9, 2), (39.9, 1), (40, 2), (NULL, 2), (NULL, NULL), (39.99999999, 2), ('NaN', -1)) AS v (age, plan);
SELECT import('regress_xgboost', 'xgboost', 'reg:squarederror', 'binary:logistic', '{"rename": {"age": "years"}}');
SELECT model, inputs, outputs FROM visage.models WHERE model = 'regress_xgboost';
SELECT round(visage_score('regress_xgboost@2', 20, 0)::numeric, 6), round(1 / (1 + exp(-2::numeric)), 6);
SELECT import('regress_xgboost', 'xgboost', '"reg:squarederror"', '"count:poisson"', '{"output": "raw"}');
SELECT visage_score('regress_xgboost@3', 20, 0) = (2 + ln(0.5::float8)::real)::real::float8;

SELECT import('regress_lightgbm', 'lightgbm');
SELECT model, algorithm, inputs, outputs FROM visage.models WHERE model = 'regress_lightgbm';
SELECT age, plan, round(visage_score('regress_lightgbm@1', age, plan)::numeric, 6)
FROM (VALUES (40, 'gold'), (40, 'silver'), (40, 'bronze'), (40, 'tin'), (40, NULL), (41, 'gold'), (NULL, 'gold')) AS v (age, plan);
SELECT import('regress_lightgbm', 'lightgbm', 'binary sigmoid:1', 'tweedie', '{"output": "raw", "iterations": 1}');
SELECT visage_score('regress_lightgbm@2', 'Infinity'::float8, 'gold');

SELECT visage_drop_model('regress_xgboost', false), visage_drop_model('regress_lightgbm', false);

-- Refused by name.
\set VERBOSITY terse
CREATE FUNCTION try(file text, old text, new text, options jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM regress_import_trees.import('regress_refused', file, old, new, options);
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''));
END
$$;
SELECT try('xgboost', 'reg:squarederror', 'reg:own');
SELECT try('xgboost', '"gbtree"', '"gbforest"');
SELECT try('xgboost', '"tree_info"', '"tree_infos"');
SELECT try('xgboost', '"size_leaf_vector":"1"', '"size_leaf_vector":"2"');
SELECT try('xgboost', '"num_class":"0","num_feature":"2","num_target":"1"', '"num_class":"3","num_feature":"2","num_target":"2"');
SELECT try('xgboost', '"categories":[2]', '"categories":[10000000]');
SELECT try('lightgbm', 'binary sigmoid:1', 'own');
SELECT try('lightgbm', 'binary sigmoid:1', 'binary scale:2');
SELECT try('lightgbm', 'version=v4', 'version=v9');
SELECT try('lightgbm', 'version=v4', E'version=v2\naverage_output');
SELECT try('lightgbm', 'shrinkage=1', 'growth=1');
SELECT try('lightgbm', '[["gold"', '[["a"],["gold"');
SELECT try('xgboost', 'binf', 'binf', '{"output": "probability"}');
SELECT try('xgboost', '', '', '{"iterations": 0}');
INSERT INTO files VALUES ('binary', 'binf…'), ('part', E'Tree=0\nnum_leaves=1\n'), ('part of PMML', '<TreeModel functionName="regression">'), ('dump', '{ "name" : "tree", "version": "v3"}'), ('empty', '');
SELECT try(name, '', '') FROM files WHERE name NOT IN ('xgboost', 'lightgbm') ORDER BY name;

-- Damaged, with where.
SELECT try('xgboost', '"version":[2,1,4],', '"version":[2,1,4');
SELECT try('xgboost', '4E1', '4F1');
SELECT try('xgboost', '4E1', '04');
SELECT try('xgboost', '"num_nodes":"5"', '"num_nodes":"6"');
SELECT try('xgboost', '"left_children":[1,3,-1', '"left_children":[1,9,-1');
SELECT try('xgboost', '"left_children":[1,3,-1', '"left_children":[1,0,-1');
SELECT try('xgboost', '"right_children":[2', '"right_children":[1');
SELECT try('xgboost', '"right_children":[2', '"right_children":[-1');
SELECT try('xgboost', '"split_indices":[0,1', '"split_indices":[0,2');
SELECT try('xgboost', '"split_indices":[0,1,0,0,0]', '"split_indices":[0,1]');
SELECT try('xgboost', '"categories_nodes":[1]', '"categories_nodes":[7]');
SELECT try('xgboost', '"categories_sizes":[1]', '"categories_sizes":[3]');
SELECT try('xgboost', '"split_type":[0,1', '"split_type":[1,1');
SELECT try('xgboost', '"tree_info":[0]', '"tree_info":[1]');
SELECT try('xgboost', '"tree_info":[0]', '"tree_info":[0.5]');
SELECT try('xgboost', '"iteration_indptr":[0,1]', '"iteration_indptr":[0,2]');
SELECT try('xgboost', '"num_trees":"1"', '"num_trees":"2"');
SELECT try('xgboost', '"num_trees":"1"', '"num_trees":"one"');
SELECT try('xgboost', '"id":0', '"id":1');
SELECT try('xgboost', '"5E-1"', '"[1E0,2E0]"');
SELECT try('xgboost', '"5E-1"', '"half"');
SELECT try('xgboost', '"num_feature":"2","num_target"', '"num_feature":"3","num_target"');
SELECT try('xgboost', '"5E-1"', '"NaN"');
SELECT try('xgboost', '"reg_loss_param":', '"reg_loss_param":' || repeat('[', 100));
SELECT try('xgboost', '"attributes":{}', '"attributes":{"best_iteration":"-2"}');
SELECT try('xgboost', '}]}}}}', '}]}}}}}');
SELECT try('xgboost', '"age"', E'"\\ud800"');
SELECT try('lightgbm', 'tree_sizes=1', 'tree_sizes=1 2');
SELECT try('lightgbm', 'end of trees', '');
SELECT try('lightgbm', 'num_leaves=3', 'num_leaves=4');
SELECT try('lightgbm', 'num_leaves=3', 'num_leaves=2000000000');
SELECT try('lightgbm', 'threshold=40 0', 'threshold=40 1');
SELECT try('lightgbm', 'threshold=40 0', 'threshold=0x28 0');
SELECT try('lightgbm', 'left_child=1 -1', 'left_child=0 -1');
SELECT try('lightgbm', 'left_child=1 -1', 'left_child=5 -1');
SELECT try('lightgbm', 'left_child=1 -1', 'left_child=-1 -1');
SELECT try('lightgbm', 'decision_type=8 1', 'decision_type=12 1');
SELECT try('lightgbm', 'split_feature=0 1', 'split_feature=0 2');
SELECT try('lightgbm', 'cat_boundaries=0 1', 'cat_boundaries=1 0');
SELECT try('lightgbm', 'cat_boundaries=0 1', 'cat_boundaries=0 3');
SELECT try('lightgbm', 'is_linear=0', 'is_linear=1');
SELECT try('lightgbm', 'shrinkage=1', 'num_cat=1');
SELECT try('lightgbm', 'Tree=0', 'Tree=1');
SELECT try('lightgbm', 'max_feature_idx=1', 'max_feature_idx=7');
SELECT try('lightgbm', 'num_tree_per_iteration=1', 'num_tree_per_iteration=2');
SELECT try('lightgbm', 'sigmoid:1', 'sigmoid:-1');
SELECT try('lightgbm', '[categorical_feature: 1]', '[categorical_feature: 5]');
SELECT try('lightgbm', '"bronze"]]', '"bronze"');

DROP SCHEMA regress_import_trees CASCADE;
