class Config:
    # data
    DATA = "data/clients.parquet"
    N_CLIENTS = 300
    # model
    N_CLUSTERS = 5
    EMB_DIM = 4
    TEMPERATURE = 0.5
    # optimisation
    LR = 0.03
    WEIGHT_DECAY = 1e-4
    BATCH_SIZE = 100
    EPOCHS = 5
    SEED = 0
    DEVICE = "cpu"


cfg = Config()
