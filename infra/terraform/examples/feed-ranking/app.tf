# Written by `tidegate export terraform`.

locals {
  feed-ranking = {
    app = { name = "feed-ranking" }
    function = [
      {
        name        = "generate"
        component   = "feed_ranking_generate.wasm"
        description = "Writes realistic interactions into data/raw/."
        trigger = [
          { event = "GenerateRequested" },
          { schedule = { cron = "0 3 * * 1", timezone = "UTC", misfire = "skip" } },
        ]
        grants = { objects = { write = ["data/raw/"] } }
        limits = { memory = "256MiB", wall_time = "5m" }
        variables = {
          users        = "10000"
          items        = "50000"
          interactions = "200000"
          days         = "30"
          seed         = "42"
        }
      },
      {
        name        = "ingest"
        component   = "feed_ranking_ingest.wasm"
        description = "CSV, JSON Lines or Parquet in raw/ becomes Parquet in staging/, partitioned by date."
        trigger     = [{ object = { bucket = "data", prefix = "raw/" } }]
        grants = {
          objects = { read = ["data/raw/"], write = ["data/staging/", "data/catalog/", "data/quarantine/"] }
          events  = { emit = ["DataReady", "CatalogReady"] }
        }
        limits = { memory = "256MiB", wall_time = "10m" }
        variables = {
          partition          = "auto"
          "column.user_id"   = "user_id,userId"
          "column.item_id"   = "item_id,itemId,movieId"
          "column.timestamp" = "timestamp"
          "column.category"  = "category,categories,genres"
          "click.from"       = "rating>=4"
        }
      },
      {
        name      = "validate"
        component = "feed_ranking_validate.wasm"
        trigger   = [{ event = "DataReady" }]
        grants = {
          objects = {
            read  = ["data/staging/", "data/suites/"]
            write = ["data/validated/", "data/quarantine/", "data/reports/"]
          }
          events = { emit = ["DataValidated", "DataRejected"] }
        }
        limits = { memory = "256MiB", wall_time = "10m" }
      },
      {
        name      = "features"
        component = "feed_ranking_features.wasm"
        trigger   = [{ event = "DataValidated" }]
        grants = {
          objects  = { read = ["data/validated/", "data/catalog/"], write = ["data/features/"] }
          features = { write = ["users", "items"] }
          events   = { emit = ["FeaturesReady"] }
        }
        limits = { memory = "1GiB", wall_time = "10m" }
      },
      {
        name      = "train"
        component = "feed_ranking_train.wasm"
        trigger   = [{ event = "FeaturesReady" }]
        grants = {
          objects = { read = ["data/features/"], write = ["models/ranker/"] }
          jobs    = { submit = ["train.two-tower"] }
          events  = { emit = ["ModelTrained"] }
        }
        variables = {
          embedding_dim = "128"
          towers        = "256,128"
          learning_rate = "0.001"
          batch_size    = "1024"
          max_epochs    = "20"
          patience      = "2"
          seed          = "42"
        }
      },
      {
        name      = "evaluate"
        component = "feed_ranking_evaluate.wasm"
        trigger   = [{ event = "ModelTrained" }]
        grants = {
          objects   = { read = ["data/features/", "models/ranker/"] }
          inference = { infer = ["ranker"] }
          state     = { read = ["models"], write = ["models"] }
          events    = { emit = ["ModelPromoted", "ModelRejected"] }
        }
        limits = { memory = "512MiB", wall_time = "10m" }
      },
      {
        name      = "rank"
        component = "feed_ranking_rank.wasm"
        trigger = [
          { http = { method = "POST", route = "/predict" } },
          { http = { method = "GET", route = "/rank/health" } },
          { http = { method = "GET", route = "/rank/metrics" } },
        ]
        grants = { features = { read = ["users", "items"] }, inference = { infer = ["ranker"] } }
        limits = { memory = "64MiB", wall_time = "25s", concurrency = 64 }
        reuse  = {}
        record = { bucket = "data", prefix = "predictions/", routes = ["/predict"] }
      },
    ]
  }
}
