model = dict(
    n_estimators=35,
    max_samples=0.6,
    contamination=0.05,
    bootstrap=False,
)
features = dict(window=7, use_log=True)
random_state = 0
