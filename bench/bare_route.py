"""`python -m bench.bare_route <model> <port>`: the least that a FastAPI route does to answer by a model.

The same JSON parse, preparation and booster as the service's; no check, token, metric, payload or look-up.
"""

import gc
import json
import sys

import mlflow
import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response

from flight_delays.use_case import USE_CASE

TYPES = {"string": object, "long": np.int64, "double": np.float64, "datetime": "datetime64[us]"}


def create_app(folder: str) -> FastAPI:
    """The app that serves a saved model."""
    model = mlflow.pyfunc.load_model(folder).unwrap_python_model()
    types = {column.name: TYPES[column.type] for column in USE_CASE.signature.inputs}
    app = FastAPI()

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        told = json.loads(await request.body())["dataframe_split"]
        cells = zip(told["columns"], zip(*told["data"], strict=True), strict=True)
        answers = model.score({name: np.array(values, types[name]) for name, values in cells})
        rows = zip(*(values.tolist() for values in answers.values()), strict=True)
        predictions = [dict(zip(answers, row, strict=True)) for row in rows]
        return Response(json.dumps({"predictions": predictions}), media_type="application/json")

    return app


if __name__ == "__main__":
    app = create_app(sys.argv[1])
    gc.collect()
    gc.freeze()  # as the service does
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=False)
